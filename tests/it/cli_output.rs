//! Destinations of `carve`, and what happens to existing files.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, symlink},
    },
    path::Path,
};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Member, Tar},
    program::{Program, Ran},
    tools,
};

const DEMO: &str = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");

fn carve(words: &[&str]) -> Ran {
    Program::new(["carve"].iter().chain(words)).run()
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything below a folder: path, mode and type, time, content or target.
fn tree(folder: &Path, prefix: &[u8], found: &mut BTreeMap<Vec<u8>, (u32, i64, i64, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, entry.file_name().as_bytes()].concat();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let kind = metadata.file_type();
        let content = match () {
            () if kind.is_symlink() => fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec(),
            () if kind.is_file() => fs::read(entry.path()).unwrap(),
            () => Vec::new(),
        };
        let time = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(path.clone(), (metadata.mode(), time.0, time.1, content));
        if kind.is_dir() {
            tree(&entry.path(), &[&path[..], b"/"].concat(), found);
        }
    }
}

#[test]
fn messages_show_normalised_absolute_paths() {
    for (written, shown) in [
        (".", "/ is a directory in"),
        ("/", "/ is a directory in"),
        ("./", "/ is a directory in"),
        ("//.//app", "/app is a directory in"),
        ("./app/.none", "there is no /app/.none in"),
        (".none", "there is no /.none in"),
    ] {
        let ran = carve(&[DEMO, written]);
        assert!(ran.stderr.contains(shown), "{written}: {}", ran.stderr);
    }
}

#[test]
fn a_failure_leaves_the_previous_file() {
    let out = tools::temporary_folder();
    let file = out.path().join("file");
    fs::write(&file, "old").unwrap();
    let file = tools::text(&file);
    // The layer is intact up to its middle, so the failure occurs after part of the content has been written.
    let tar = Tar::new().file("big", vec![b'a'; 4 << 20]).finish();
    let mut layer = Layer::new(&tar, Compression::Gzip);
    let mut blob = layer.blob.clone();
    let middle = blob.len() / 2;
    blob.truncate(middle);
    layer = layer.blob(blob);
    let layout = Layout::of(&Image::new().layer(layer));
    carve(&[DEMO, "/app/secret", "-o", file]).failed(4);
    carve(&[DEMO, "/etc", "-o", file]).failed(5);
    carve(&[DEMO, "/no/such", "/etc/no", "--tar", "-o", file]).failed(3);
    carve(&[&layout.reference("latest"), "/big", "-o", file]).failed(8);
    assert_eq!((names(out.path()), fs::read(file).unwrap()), (vec!["file".to_owned()], b"old".to_vec()));
}

#[test]
fn special_files_are_written_through_and_their_errors_reported() {
    let out = tools::temporary_folder();
    let passwd = carve(&[DEMO, "/etc/passwd"]).done().stdout;
    assert_eq!(carve(&[DEMO, "/etc/passwd", "-o", "/dev/stdout"]).done().stdout, passwd);
    carve(&[DEMO, "/etc/passwd", "-o", "/dev/null"]).done();
    carve(&[DEMO, "/etc/passwd", "-o", "/dev/full"]).failed(1).said("writing /dev/full: ");
    carve(&[DEMO, "/etc", "--tar", "-o", "/dev/full"]).failed(1).said("writing /dev/full: ");
    // Not even root can create files here.
    carve(&[DEMO, "/etc/passwd", "-o", "/proc/passwd"]).failed(1).said("writing /proc/passwd: ");
    carve(&[DEMO, "/etc/passwd", "/bin", "-o", "/proc/below/"]).failed(1).said("writing /proc/below");
    let link = out.path().join("link");
    symlink("file", &link).unwrap();
    carve(&[DEMO, "/etc/passwd", "-o", tools::text(&link)]).done();
    assert_eq!(fs::read(out.path().join("file")).unwrap(), passwd);
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
}

#[test]
fn links_in_the_output_directory_are_not_followed() {
    let (out, outside) = (tools::temporary_folder(), tools::temporary_folder());
    let victim = outside.path().join("victim");
    fs::write(&victim, "old").unwrap();
    symlink(outside.path(), out.path().join("etc")).unwrap();
    symlink(&victim, out.path().join("passwd")).unwrap();
    let below = format!("{}/", tools::text(out.path()));
    carve(&[DEMO, "/etc", "-o", &below]).failed(1).said("links are not followed");
    carve(&[DEMO, "/etc/passwd", "-o", &below]).done();
    assert_eq!(
        (names(outside.path()), fs::read(&victim).unwrap()),
        (vec!["victim".to_owned()], b"old".to_vec())
    );
    assert!(fs::symlink_metadata(out.path().join("passwd")).unwrap().is_file());
    // The same for links from the image.
    let tar = Tar::new().symlink("way", tools::text(outside.path())).finish();
    let upper = Tar::new().file("way/new", "new").finish();
    let layout = Layout::of(&Image::of([tar, upper]));
    let below = format!("{}/second/", tools::text(out.path()));
    carve(&[&layout.reference("latest"), "/", "-o", &below]).done();
    assert_eq!(names(outside.path()), ["victim"]);
    assert_eq!(fs::read(out.path().join("second/way/new")).unwrap(), b"new");
}

#[test]
fn an_archive_and_a_directory_have_the_same_contents() {
    let long = "long/".repeat(60) + "name";
    let tar = Tar::new()
        .directory("dir")
        .file("dir/plain", "plain")
        .member(Member::file("dir/run", "#!").mode(0o755).modified(1))
        .member(Member::file("dir/fraction", "f").pax("mtime", "1700000000.25"))
        .hardlink("dir/second", "dir/plain")
        .symlink("dir/link", "../dir/plain")
        .symlink("dir/dangling", "x".repeat(200))
        .member(Member::fifo("dir/pipe"))
        .file("a\nb \x1b[31m\\", "newline")
        .file(b"\xff\xfe", "not UTF-8")
        .file(&long, "long")
        .file("empty", "");
    let layout = Layout::of(&Image::of([tar.finish()]));
    let out = tools::temporary_folder();
    let (directory, archive, unpacked) =
        (out.path().join("directory"), out.path().join("a.tar"), out.path().join("unpacked"));
    fs::create_dir(&unpacked).unwrap();
    let image = layout.reference("latest");
    carve(&[&image, "/", "-o", &format!("{}/", tools::text(&directory))]).done();
    carve(&[&image, "/", "--tar", "-o", tools::text(&archive)]).done();
    let mut gnu = tools::command("tar");
    gnu.args(["-x", "--no-same-owner", "-f"]).arg(&archive).arg("-C").arg(&unpacked);
    tools::run(&mut gnu);
    let [mut written, mut extracted] = [BTreeMap::new(), BTreeMap::new()];
    tree(&directory, b"", &mut written);
    tree(&unpacked, b"", &mut extracted);
    // A directory without an entry in the image keeps its creation time.
    for found in [&mut written, &mut extracted] {
        found.retain(|path, _| !(path.starts_with(b"long") && path.ends_with(b"long")));
    }
    assert_eq!(written, extracted);
    assert!(fs::symlink_metadata(unpacked.join("dir/pipe")).unwrap().file_type().is_fifo());
    let inode = |name| fs::metadata(directory.join(name)).unwrap().ino();
    assert_eq!(inode("dir/plain"), inode("dir/second"));
    assert_eq!(written.len(), 12);
}

#[test]
fn a_pattern_that_nothing_matches_is_not_found() {
    let out = tools::temporary_folder();
    let file = out.path().join("a.tar");
    let ran = carve(&[DEMO, "--glob", "no*", "--tar", "-o", tools::text(&file)]).failed(3);
    ran.said("no entry matches \"no*\"");
    assert!(!file.exists());
    let below = format!("{}/", tools::text(out.path()));
    let ran = carve(&[DEMO, "--glob", "etc/p*", "--glob", "no*", "-o", &below, "--json"]).failed(3);
    let lines = ran.lines();
    let failures: Vec<_> = lines.iter().filter(|line| line["type"] == "failure").collect();
    assert_eq!((failures.len(), &failures[0]["path"], &failures[0]["exit"]), (1, &"no*".into(), &3.into()));
    assert!(out.path().join("etc/passwd").is_file());
}

#[test]
fn empty_paths_and_impossible_requests_are_usage_failures() {
    let out = tools::temporary_folder();
    let below = format!("{}/", tools::text(out.path()));
    carve(&[DEMO, "", "-o", &below]).failed(2).said("PATH is empty");
    carve(&[DEMO, "--glob", "", "-o", &below]).failed(2).said("pattern is empty");
    carve(&[DEMO, "/etc/passwd", "--same-permissions", "-o", "-"]).failed(2).said("--same-permissions");
    assert_eq!(names(out.path()), Vec::<String>::new());
}

#[test]
fn layer_sizes_whose_sum_overflows_do_not_matter() {
    let tar = Tar::new().file("a", "a").finish();
    let layer = Layer::new(&tar, Compression::None);
    let descriptor = serde_json::json!({
        "mediaType": layer.media_type, "digest": layer.digest(), "size": i64::MAX,
    });
    let image =
        Image::new().layer(layer).manifest("layers", serde_json::json!([descriptor, descriptor, descriptor]));
    let layout = Layout::of(&image);
    let ran = Program::new(["peek", &layout.reference("latest")]).run().done();
    assert_eq!(ran.report["bytes_of_layers"], u64::MAX);
}
