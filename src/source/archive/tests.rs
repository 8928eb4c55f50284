//! Archives that cannot be read in place, damaged ones, and their limits.

use std::{
    io::Write as _,
    os::unix::fs::{MetadataExt as _, symlink},
    sync::mpsc,
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;

const BUDGET: u64 = 1 << 30;
/// Longer than opening anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn opened(bytes: &[u8], max_unpacked: u64) -> Result<Archive, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Archive::open(file.path(), max_unpacked)
}

fn content(archive: &Archive, name: &str) -> Vec<u8> {
    archive.file(name).unwrap().read_all(BUDGET).unwrap()
}

/// The error's message, and whether it means that the archive is damaged.
fn refused(result: Result<Archive, Error>) -> (String, bool) {
    let error = crate::Error::from(result.unwrap_err());
    (error.to_string(), error.is_corrupt())
}

fn fifo() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    (folder, path)
}

#[test]
fn an_archive_that_comes_through_a_pipe_is_read_plain_or_compressed() {
    let archive = tar(&[("f", b"content"), ("g", &[7; 100_000])]);
    for bytes in [archive.clone(), gzip(&archive)] {
        let (_folder, path) = fifo();
        let writer = {
            let path = path.clone();
            thread::spawn(move || fs::write(path, bytes).unwrap())
        };
        let opened = Archive::open(&path, BUDGET).unwrap();
        writer.join().unwrap();
        assert_eq!((content(&opened, "f"), content(&opened, "g").len()), (b"content".to_vec(), 100_000));
    }
}

#[test]
fn a_cut_archive_is_corrupt_and_names_the_byte_where_it_ends() {
    let archive = tar(&[("first", b"content"), ("second", &[7; 10_000])]);
    // In the second header, and in the content of the second member.
    for (length, words) in [(1_024 + 100, ""), (3_000, ": second ends at byte 11536")] {
        let (message, is_corrupt) = refused(opened(&archive[..length], BUDGET));
        assert!(is_corrupt, "{message}");
        let expected = format!("is cut off at byte {length} of the unpacked archive{words}");
        assert!(message.ends_with(&expected), "{message}");
    }
    let compressed = gzip(&archive);
    let length = compressed.len() - 20;
    let (message, is_corrupt) = refused(opened(&compressed[..length], BUDGET));
    assert!(is_corrupt, "{message}");
    assert!(message.contains(&format!("is cut off at byte {length} of the compressed archive")), "{message}");
    // Only the end of the archive is missing, which is harmless.
    let archive = tar(&[("f", b"content")]);
    assert_eq!(content(&opened(&archive[..1_024], BUDGET).unwrap(), "f"), b"content");
}

#[test]
fn a_damaged_archive_is_corrupt_and_another_file_is_not_an_archive() {
    let mut archive = tar(&[("f", b"content"), ("g", b"content")]);
    archive[1_024] ^= 1;
    let (message, is_corrupt) = refused(opened(&archive, BUDGET));
    assert!(is_corrupt && message.contains("header checksum does not match at byte 1024"), "{message}");
    let (message, is_corrupt) = refused(opened(&[7; 2_000], BUDGET));
    assert!(!is_corrupt && message.contains("not a tar archive: no header at byte 0"), "{message}");
}

#[test]
fn an_unsupported_compression_is_named_of_the_archive() {
    let xz = [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &[0; 100]].concat();
    let (message, is_corrupt) = refused(opened(&xz, BUDGET));
    assert!(!is_corrupt && message.contains("the archive is compressed with xz"), "{message}");
}

#[test]
fn a_temporary_copy_has_a_limit_and_zeros_take_no_space() {
    let zeros = vec![0; 64 << 20];
    let bytes = gzip(&tar(&[("zeros", &zeros), ("f", b"content")]));
    assert!(bytes.len() < 1 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let copy = spool::unpack(&mut file, true, BUDGET, "archive").unwrap().unwrap();
    let metadata = copy.metadata().unwrap();
    assert!(metadata.len() > 64 << 20 && metadata.blocks() * 512 < 4 << 20, "{metadata:?}");
    let archive = opened(&bytes, BUDGET).unwrap();
    assert_eq!(
        (content(&archive, "f"), content(&archive, "zeros").len()),
        (b"content".to_vec(), zeros.len())
    );
    let (message, is_corrupt) = refused(opened(&bytes, 1 << 20));
    assert!(!is_corrupt && message.contains("unpacks to more than 1048576 bytes, the limit"), "{message}");
}

#[test]
fn names_of_members_are_kept_up_to_a_limit() {
    let name = |number: usize| format!("{number:08}{}", "n".repeat(12_000));
    let count = usize::try_from(limits::ARCHIVE_NAME_BYTES).unwrap() / 12_000;
    let mut bytes = Vec::new();
    for number in 0..count {
        let record = format!("{} path={}\n", 12_008 + 6 + 6, name(number));
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(::tar::EntryType::XHeader);
        header.set_path("pax").unwrap();
        header.set_size(record.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(record.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let mut header = ::tar::Header::new_ustar();
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_cksum();
        bytes.extend(header.as_bytes());
    }
    let (message, is_corrupt) = refused(opened(&bytes, BUDGET));
    assert!(!is_corrupt && message.contains("more than 67108864 bytes of member names"), "{message}");
}

#[test]
fn only_regular_files_and_pipes_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    for (path, words) in [
        (folder.path(), "is a directory, not an archive"),
        (Path::new("/dev/zero"), "is neither a regular file nor a pipe"),
    ] {
        let (message, is_corrupt) = refused(Archive::open(path, BUDGET));
        assert!(!is_corrupt && message.contains(words), "{message}");
    }
}

#[test]
fn a_document_that_is_a_pipe_or_device_is_refused_at_once() {
    let (folder, pipe) = fifo();
    let device = folder.path().join("device");
    symlink("/dev/zero", &device).unwrap();
    for path in [pipe, device] {
        // Without the check, opening the pipe waits for a writer.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(FileBlob::open(&path).map(drop)));
        let error = receiver.recv_timeout(PATIENCE).expect("opening blocks").unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
    }
}
