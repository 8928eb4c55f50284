//! The sample to decode: a tar of files that most machines have, or a synthetic one.

use std::{fs, path::Path};

/// Sources of real content; the first with enough of it is used.
const FOLDERS: [&str; 2] = ["/usr/lib", "/usr/share"];

/// Bytes of content in the sample.
const CAP_BYTES: u64 = 128 << 20;

/// Least content worth measuring.
const LEAST_BYTES: u64 = 64 << 20;

/// Larger files are skipped, so that no file dominates the sample.
const FILE_BYTES: u64 = 8 << 20;

/// A tar and a description of its content.
pub(crate) struct Sample {
    pub(crate) what: String,
    pub(crate) tar: Vec<u8>,
}

/// The tar to decode.
pub(crate) fn tar() -> Sample {
    for folder in FOLDERS {
        let mut builder = Builder { tar: tar::Builder::new(Vec::new()), content: 0, files: 0 };
        builder.folder(Path::new(folder));
        if builder.content >= LEAST_BYTES {
            let what = format!("{} files of {folder}", builder.files);
            return Sample { what, tar: builder.tar.into_inner().expect("memory takes all") };
        }
    }
    Sample { what: "synthetic words".to_owned(), tar: synthetic() }
}

struct Builder {
    tar: tar::Builder<Vec<u8>>,
    content: u64,
    files: usize,
}

impl Builder {
    fn folder(&mut self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if self.content >= CAP_BYTES {
                return;
            }
            if metadata.is_dir() {
                self.folder(&path);
            } else if metadata.is_file() && metadata.len() <= FILE_BYTES {
                let Ok(content) = fs::read(&path) else { continue };
                let name = path.strip_prefix("/").unwrap_or(&path);
                append(&mut self.tar, name, &content);
                self.content += content.len() as u64;
                self.files += 1;
            }
        }
    }
}

/// Words of a small vocabulary between random bytes: compresses to about a third.
fn synthetic() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<[u8; 8]> = (0..4096).map(|_| next().to_le_bytes()).collect();
    let mut builder = tar::Builder::new(Vec::new());
    for file in 0..CAP_BYTES >> 15 {
        let mut content = Vec::with_capacity(1 << 15);
        while content.len() < 1 << 15 {
            let random = next();
            if random % 8 == 0 {
                content.extend_from_slice(&random.to_le_bytes());
            } else {
                content.extend_from_slice(
                    words.get((random >> 8) as usize % words.len()).map_or(&[], |word| word),
                );
            }
        }
        append(&mut builder, Path::new(&format!("synthetic/{file}")), &content);
    }
    builder.into_inner().expect("memory takes all")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, name: &Path, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, name, content).expect("memory takes all");
}
