//! Archives and images, as GNU tar, skopeo and umoci see them.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{
    images::{
        Compression, Image, Layer, Layout, Member, Tar, debian,
        layout::architecture,
        oracle::{Kind, unpack},
        tar::LongNames,
        transport::{self, Insertion},
    },
    tools,
};

fn tar_list(archive: &[u8], options: &[&str]) -> String {
    let listing = tools::filter(tools::command("tar").args(["-t"]).args(options), archive);
    String::from_utf8(listing).unwrap()
}

#[test]
fn gnu_tar_lists_every_kind_of_entry() {
    let archive = Tar::new()
        .directory("etc")
        .member(Member::file("etc/passwd", "root").mode(0o4755).owner(7, 8).owner_names("seven", "eight"))
        .symlink("bin", "usr/bin")
        .hardlink("etc/again", "etc/passwd")
        .member(Member::fifo("run/pipe"))
        .member(Member::character_device("dev/null", 1, 3))
        .member(Member::block_device("dev/loop0", 7, 0))
        .whiteout("etc/shadow")
        .opaque("var")
        .opaque("")
        .finish();
    assert_eq!(
        tar_list(&archive, &["-v", "--quoting-style=escape"]),
        "drwxr-xr-x 0/0               0 2024-01-01 00:00 etc/\n\
         -rwsr-xr-x seven/eight       4 2024-01-01 00:00 etc/passwd\n\
         lrwxrwxrwx 0/0               0 2024-01-01 00:00 bin -> usr/bin\n\
         hrw-r--r-- 0/0               0 2024-01-01 00:00 etc/again link to etc/passwd\n\
         prw-r--r-- 0/0               0 2024-01-01 00:00 run/pipe\n\
         crw-r--r-- 0/0             1,3 2024-01-01 00:00 dev/null\n\
         brw-r--r-- 0/0             7,0 2024-01-01 00:00 dev/loop0\n\
         -rw-r--r-- 0/0               0 2024-01-01 00:00 etc/.wh.shadow\n\
         -rw-r--r-- 0/0               0 2024-01-01 00:00 var/.wh..wh..opq\n\
         -rw-r--r-- 0/0               0 2024-01-01 00:00 .wh..wh..opq\n"
    );
}

#[test]
fn gnu_tar_reads_long_and_odd_names_in_both_forms() {
    let long = format!("deep/{}", "n".repeat(300));
    let odd: &[u8] = b"a b\n\x1b[31m\xff";
    for form in [LongNames::Gnu, LongNames::Pax] {
        let archive = Tar::new()
            .global_pax("comment", "before all")
            .member(Member::file(&long, "x").long_names(form))
            .member(Member::symlink("link", &long).long_names(form))
            .file(odd, "")
            .finish();
        let expected = format!("{long}\nlink\na b\\n\\033[31m\\377\n");
        assert_eq!(tar_list(&archive, &["--quoting-style=escape"]), expected, "{form:?}");
        assert!(tar_list(&archive, &["-v"]).contains(&format!("link -> {long}\n")), "{form:?}");
    }
}

#[test]
fn gnu_tar_sees_extended_attributes_of_any_length() {
    for length in [1, 75, 80, 90, 970, 980, 5_000] {
        let archive =
            Tar::new().member(Member::file("f", "").xattr("user.note", vec![b'v'; length])).finish();
        let listing = tar_list(&archive, &["-vv", "--xattrs", "--xattrs-include=*"]);
        assert!(listing.contains(&format!("x: {length} user.note")), "{listing}");
    }
}

#[test]
fn an_archive_may_repeat_a_name_and_lack_its_end() {
    let archive = Tar::new().file("a", "1").file("./a", "2").file("/a", "3");
    let position = archive.position();
    let archive = archive.finish_without_end();
    assert_eq!(position, archive.len());
    assert_eq!(tar_list(&archive, &["-P"]), "a\n./a\n/a\n");
}

#[test]
fn every_compression_is_undone_by_its_own_tool() {
    let archive = Tar::new().file("big", vec![b'x'; 1 << 20]).finish();
    for compression in Compression::ALL {
        let blob = Layer::new(&archive, compression).blob;
        let back = match compression {
            Compression::Gzip | Compression::Pigz => tools::filter(tools::command("gzip").arg("-dc"), &blob),
            Compression::None => blob,
            Compression::Zstd => tools::filter(tools::command("zstd").args(["-dc", "-q"]), &blob),
        };
        assert!(back == archive, "{compression:?}");
    }
}

#[test]
fn umoci_unpacks_what_the_layout_holds() {
    let base = Tar::new()
        .member(Member::directory("etc").mode(0o750))
        .file("etc/passwd", "root")
        .file("etc/shadow", "secret")
        .hardlink("etc/again", "etc/passwd")
        .symlink("bin", "usr/bin")
        .member(Member::fifo("pipe"))
        .member(Member::character_device("null", 1, 3));
    let top = Tar::new().directory("etc").whiteout("etc/shadow").file("etc/group", "");
    let layout = Layout::of(&Image::of([base.finish(), top.finish()]));
    let found = unpack(layout.path(), "latest");
    let names: Vec<_> = found.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(names, ["bin", "etc", "etc/again", "etc/group", "etc/passwd", "null", "pipe"]);
    let at = |path: &str| &found[path.as_bytes()];
    assert_eq!((at("bin").kind, at("bin").link.as_slice()), (Kind::Symlink, b"usr/bin".as_slice()));
    assert_eq!((at("etc/passwd").kind, at("etc/passwd").size, at("etc/passwd").links), (Kind::File, 4, 2));
    assert_eq!(at("etc/passwd").inode, at("etc/again").inode);
    assert_eq!(at("etc/passwd").digest, Some(layerslayer::Digest::sha256(b"root")));
    assert_eq!(at("etc/passwd").modified, 1_704_067_200);
    assert_eq!((at("null").kind, at("null").device), (Kind::Char, Some((1, 3))));
    assert_eq!(at("pipe").kind, Kind::Fifo);
}

#[test]
fn umoci_builds_the_same_image_from_the_same_archives() {
    let archives = [
        Tar::new().file("a", "1").directory("d").file("d/x", "").finish(),
        Tar::new().whiteout("a").opaque("d").file("d/y", "").finish(),
    ];
    let folder = tools::temporary_folder();
    let built = folder.path().join("umoci");
    transport::umoci_build(&built, "latest", &archives);
    let ours = Layout::of(&Image::of(archives));
    let names = |folder| unpack(folder, "latest").into_keys().collect::<Vec<_>>();
    assert_eq!(names(&built), names(ours.path()));
}

#[test]
fn umoci_makes_whiteouts_and_opaque_directories_itself() {
    let folder = tools::temporary_folder();
    let [built, inserted] = ["umoci", "inserted"].map(|name| folder.path().join(name));
    let base =
        Tar::new().directory("d").file("d/x", "").directory("e").file("e/x", "").file("f", "").finish();
    transport::umoci_build(&built, "latest", &[base]);
    fs::create_dir(&inserted).unwrap();
    fs::write(inserted.join("y"), "").unwrap();
    transport::umoci_insert(&built, "latest", Insertion::Content(&inserted, "/d"));
    transport::umoci_insert(&built, "latest", Insertion::Opaque(&inserted, "/e"));
    transport::umoci_insert(&built, "latest", Insertion::Whiteout("/f"));
    let found = unpack(&built, "latest");
    let names: Vec<_> = found.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(names, ["d", "d/x", "d/y", "e", "e/y"]);
}

#[test]
fn skopeo_chooses_a_platform_out_of_a_nested_index_with_attestations() {
    let mut layout = Layout::new();
    let archive = Tar::new().file("f", "").finish();
    let image = |os, architecture| Image::of([archive.clone()]).platform(os, architecture, "");
    let [linux, windows] = ["linux", "windows"].map(|os| layout.image(&image(os, architecture())));
    let attestation = layout.attestation(&linux);
    let index = layout.index(&[windows, attestation, linux]);
    layout.tag("multi", index.clone());
    let nested = layout.index(&[index]);
    layout.tag("nested", nested);
    let said = tools::run(tools::command("skopeo").args(["inspect", &layout.reference("multi")]));
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((&said["Os"], &said["Architecture"]), (&json!("linux"), &json!(architecture())));
}

#[test]
fn skopeo_writes_archives_of_both_kinds() {
    let layout = Layout::of(&Image::of([Tar::new().file("f", "").finish()]));
    let folder = tools::temporary_folder();
    let [docker, oci] = ["docker.tar", "oci.tar"].map(|name| folder.path().join(name));
    transport::save_docker_archive(&layout, "latest", &docker, "example/one:1");
    transport::save_oci_archive(&layout, "latest", &oci);
    assert!(tar_list(&fs::read(docker).unwrap(), &[]).contains("manifest.json\n"));
    assert!(tar_list(&fs::read(oci).unwrap(), &[]).contains("index.json\n"));
}

#[test]
fn the_demo_image_unpacks_to_what_its_readme_says() {
    let found = unpack(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo"), "latest");
    let names: Vec<_> = found.keys().map(|path| String::from_utf8_lossy(path)).collect();
    let expected =
        "app app/app.conf bin etc etc/app.conf etc/os-release etc/passwd usr usr/bin usr/bin/hello"
            .split(' ');
    assert!(names.iter().eq(expected), "{names:?}");
    assert_eq!(found[b"etc/passwd".as_slice()].size, 63);
}

#[test]
fn debian_is_a_real_root_file_system_in_three_encodings() {
    let found = debian::unpacked();
    assert!(found.len() > 5_000);
    assert_eq!(found[b"bin".as_slice()].link, b"usr/bin");
    assert_eq!(found[b"usr/bin/perl".as_slice()].kind, Kind::File);
    for tag in ["gzip", "none", "zstd"] {
        tools::run(tools::command("skopeo").args(["inspect", &debian::reference(tag)]));
    }
}
