//! Prompts on the controlling terminal, whatever stdin and stderr are.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use zeroize::Zeroizing;

use super::super::exit::{Exit, Failure};

/// Longest line that is read, in bytes.
const LINE_BYTES: usize = 64 << 10;

const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;

/// The controlling terminal.
pub(crate) struct Terminal {
    file: File,
}

/// A terminal without echo, until dropped.
struct Hidden<'a> {
    file: &'a File,
    before: Termios,
}

impl Terminal {
    /// Opens the terminal, if there is one.
    pub(crate) fn open() -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { file })
    }

    /// Asks for a line with echo.
    pub(crate) fn visible(&self, question: &str) -> Result<String, Failure> {
        self.write(question)?;
        let mut line = Vec::new();
        while let Some(byte) = self.byte()? {
            match byte {
                b'\n' | b'\r' => break,
                byte if line.len() < LINE_BYTES => line.push(byte),
                _ => return Err(Failure::usage("the answer is too long")),
            }
        }
        let line = String::from_utf8(line).map_err(|_| Failure::usage("the answer is not UTF-8"))?;
        Ok(line.trim().to_owned())
    }

    /// Asks for a line without echo. Handles Ctrl-C itself: a signal from the terminal would end the program and leave the terminal
    /// without echo.
    pub(crate) fn hidden(&self, question: &str) -> Result<Zeroizing<String>, Failure> {
        let hidden = Hidden::new(&self.file)?;
        self.write(question)?;
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES));
        let ended = loop {
            match self.byte()? {
                Some(b'\n' | b'\r') => break Ok(()),
                Some(CTRL_C) => break Err(Failure::silent(Exit::Interrupted)),
                None | Some(CTRL_D) if line.is_empty() => break Err(Failure::usage("nothing was typed")),
                None | Some(CTRL_D) => break Ok(()),
                Some(CTRL_U) => line.clear(),
                Some(byte) if BACKSPACE.contains(&byte) => erase_character(&mut line),
                Some(byte) if line.len() < LINE_BYTES => line.push(byte),
                Some(_) => break Err(Failure::usage("the answer is too long")),
            }
        };
        drop(hidden);
        self.write("\n")?;
        ended?;
        let text = std::str::from_utf8(&line).map_err(|_| Failure::usage("the answer is not UTF-8"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn byte(&self) -> Result<Option<u8>, Failure> {
        let mut byte = [0];
        match (&self.file).read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(byte.first().copied()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.byte(),
            Err(error) => Err(Failure::caused("reading from the terminal", &error)),
        }
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        (&self.file)
            .write_all(text.as_bytes())
            .map_err(|error| Failure::caused("writing to the terminal", &error))
    }
}

impl<'a> Hidden<'a> {
    fn new(file: &'a File) -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| Failure::caused("turning off the terminal's echo", &error);
        let before = tcgetattr(file).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(file, OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self { file, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(self.file, OptionalActions::Flush, &self.before);
    }
}

/// Removes the last character, which may have several bytes.
fn erase_character(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0b1100_0000 != 0b1000_0000 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_removes_a_whole_character() {
        let mut line = "aä🔑".as_bytes().to_vec();
        for left in ["aä", "a", "", ""] {
            erase_character(&mut line);
            assert_eq!(line, left.as_bytes());
        }
    }
}
