//! `layerslayer toc`: keys that vouch for shared tables of layers.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
};

use layerslayer::SigningKey;
use secrecy::ExposeSecret as _;

use super::{
    args::{TocAction, TocArguments},
    console::Console,
    exit::{Exit, Failure, chain},
};

/// Only its owner may read a private key.
const KEY_MODE: u32 = 0o600;

/// Runs `toc`.
pub(crate) fn main(arguments: &TocArguments) -> ExitCode {
    let console = Console::new(false, false);
    let TocAction::Keygen { output } = &arguments.action;
    match keygen(output, &console) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            failure.messages.iter().for_each(|message| console.error(message));
            ExitCode::from(failure.exit.code())
        }
    }
}

fn keygen(path: &Path, console: &Console) -> Result<(), Failure> {
    let key = SigningKey::generate().map_err(|error| Failure::new(Exit::Other, chain(&error)))?;
    let failed = |error: io::Error| Failure::writing(path.display(), &error);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(path).map_err(failed)?;
    file.write_all(key.private_pem().expose_secret().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    let mut out = console.stdout()?;
    let written = out.write_all(key.public_pem().as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::writing("stdout", &error))
}
