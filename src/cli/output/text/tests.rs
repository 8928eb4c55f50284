use layerslayer::Timestamp;

use super::*;

fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
    let mut entry = Entry::new(path, kind);
    entry.mode = mode;
    entry.mtime = Timestamp { seconds: 1_704_067_200, nanoseconds: 0 };
    entry.uname = b"root".to_vec();
    entry.gname = b"root".to_vec();
    entry
}

fn line(entry: &Entry) -> String {
    let mut line = String::new();
    push_entry(&mut line, entry, &mut 0);
    line
}

fn layer(index: usize) -> LayerFacts {
    LayerFacts {
        index,
        digest: "sha256:0123456789abcdef".into(),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        size: 29_700_000,
        created_by: Some("/bin/sh -c #(nop)  ADD\tfile:1 \n in /\x1b ".into()),
        ..LayerFacts::default()
    }
}

#[test]
fn entries_look_like_tar_listings() {
    let mut file = entry("etc/passwd", EntryKind::File, 0o644);
    file.size = 839;
    let mut symlink = entry("bin", EntryKind::Symlink, 0o777);
    symlink.link = b"usr/bin".to_vec();
    let mut hardlink = entry("b", EntryKind::Hardlink, 0o644);
    hardlink.link = b"a".to_vec();
    let mut device = entry("dev/null", EntryKind::Char, 0o666);
    device.device = Some((1, 3));
    let mut numeric = entry("a", EntryKind::File, 0o600);
    (numeric.uid, numeric.gid) = (1000, 65_534);
    (numeric.uname, numeric.gname) = (Vec::new(), Vec::new());
    let cases = [
        (file, "-rw-r--r-- root/root 839 2024-01-01 00:00 etc/passwd"),
        (entry("etc", EntryKind::Directory, 0o755), "drwxr-xr-x root/root 0 2024-01-01 00:00 etc/"),
        (entry("", EntryKind::Directory, 0o755), "drwxr-xr-x root/root 0 2024-01-01 00:00 ./"),
        (symlink, "lrwxrwxrwx root/root 0 2024-01-01 00:00 bin -> usr/bin"),
        (hardlink, "hrw-r--r-- root/root 0 2024-01-01 00:00 b link to a"),
        (device, "crw-rw-rw- root/root 1,3 2024-01-01 00:00 dev/null"),
        (entry("p", EntryKind::Fifo, 0o600), "prw------- root/root 0 2024-01-01 00:00 p"),
        (numeric, "-rw------- 1000/65534 0 2024-01-01 00:00 a"),
        (entry("su", EntryKind::File, 0o4755), "-rwsr-xr-x root/root 0 2024-01-01 00:00 su"),
        (entry("odd", EntryKind::File, 0o7000), "---S--S--T root/root 0 2024-01-01 00:00 odd"),
        (entry("tmp", EntryKind::Directory, 0o1777), "drwxrwxrwt root/root 0 2024-01-01 00:00 tmp/"),
        (entry("motd", EntryKind::Whiteout, 0), "w--------- root/root 0 2024-01-01 00:00 motd (whiteout)"),
        (entry("etc", EntryKind::Opaque, 0), "o--------- root/root 0 2024-01-01 00:00 etc/ (opaque)"),
    ];
    for (entry, expected) in cases {
        assert_eq!(line(&entry), expected);
    }
}

#[test]
fn sizes_are_aligned_until_one_needs_more_columns() {
    let mut columns = OWNER_SIZE_COLUMNS;
    let mut lines = Vec::new();
    for size in [1, 99_999_999_999, 1] {
        let mut file = entry("a", EntryKind::File, 0o644);
        file.size = size;
        let mut line = String::new();
        push_entry(&mut line, &file, &mut columns);
        lines.push(line);
    }
    assert_eq!(lines[0], "-rw-r--r-- root/root         1 2024-01-01 00:00 a");
    assert_eq!(lines[1], "-rw-r--r-- root/root 99999999999 2024-01-01 00:00 a");
    assert_eq!(lines[2], "-rw-r--r-- root/root           1 2024-01-01 00:00 a");
}

#[test]
fn long_names_are_cut_with_a_mark() {
    let mut long = entry(&"d/".repeat(4_000), EntryKind::Symlink, 0o777);
    long.link = vec![b'\xff'; 1 << 20];
    long.uname = vec![b'u'; 1 << 20];
    long.gname = "\u{e9}".repeat(33).into_bytes();
    let text = line(&long);
    let (owners, rest) = text.strip_prefix("lrwxrwxrwx ").unwrap().split_once(' ').unwrap();
    assert_eq!(owners, format!("{}…/{}…", "u".repeat(31), "\u{e9}".repeat(31)));
    let (path, link) = rest.strip_prefix("0 2024-01-01 00:00 ").unwrap().split_once(" -> ").unwrap();
    for name in [path, link] {
        assert_eq!((name.chars().count(), name.chars().last()), (4096, Some('…')));
    }
    let mut fitting = entry("a", EntryKind::File, 0o644);
    fitting.uname = vec![b'u'; 32];
    assert!(line(&fitting).contains(&format!(" {}/root ", "u".repeat(32))));
}

#[test]
fn names_cannot_fake_a_line_or_control_a_terminal() {
    let mut link = entry("a\nb", EntryKind::Symlink, 0o777);
    link.link = b"\x1b[2J".to_vec();
    link.uname = b"ro\not".to_vec();
    let line = line(&link);
    assert!(line.ends_with("a\\nb -> \\x1b[2J"), "{line}");
    assert!(!line.contains(char::is_control));
}

fn listing(style: Style, write: impl FnOnce(&mut Text<&mut Vec<u8>>) -> io::Result<()>) -> Vec<String> {
    let mut out = Vec::new();
    write(&mut Text::new(&mut out, style, Some(60))).unwrap();
    String::from_utf8(out).unwrap().lines().map(ToOwned::to_owned).collect()
}

fn two_layers(text: &mut Text<&mut Vec<u8>>) -> io::Result<()> {
    text.layer(&layer(0))?;
    text.layer_end(0, 0, &proof())?;
    text.layer(&layer(1))?;
    text.entry(&Row { layer: 1, entry: &entry("a", EntryKind::File, 0), implied: false })?;
    text.layer_end(1, 1, &proof())?;
    text.end()
}

#[test]
fn every_layer_has_a_header_line() {
    let lines = listing(Style::EveryLayer, two_layers);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "layer 0  sha256:0123456789abcdef  29.7 MB  gzip  ADD file:1…");
    assert_eq!(lines[1], "");
    assert!(lines[2].starts_with("layer 1  ") && lines[3].ends_with(" a"));
}

#[test]
fn layers_without_a_match_have_no_header_line() {
    let lines = listing(Style::LayersWithEntries, two_layers);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("layer 1  ") && lines[1].ends_with(" a"));
}

#[test]
fn the_merged_view_shows_the_layer_of_each_entry() {
    let lines = listing(Style::Rootfs { digits: 2 }, |text| {
        text.layer(&layer(0))?;
        text.entry(&Row { layer: 0, entry: &entry("a", EntryKind::Directory, 0), implied: true })?;
        text.entry(&Row { layer: 11, entry: &entry("a/b", EntryKind::File, 0), implied: false })?;
        text.rootfs_end(2, &proof())?;
        text.end()
    });
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(" 0 d---------") && lines[0].ends_with(" a/ (implied)"), "{}", lines[0]);
    assert!(lines[1].starts_with("11 ----------") && lines[1].ends_with(" a/b"), "{}", lines[1]);
}

#[test]
fn the_summary_has_the_configuration_and_one_row_per_layer() {
    let image = ImageFacts {
        reference: "nginx".into(),
        digest: "sha256:1".into(),
        platform: Some("linux/amd64".into()),
        artifact_type: None,
    };
    let config = ConfigFacts {
        entrypoint: vec!["/a b".into(), "c".into()],
        env: vec!["A=1".into(), "B=2\n".into()],
        ..ConfigFacts::default()
    };
    let mut out = Vec::new();
    summary(&mut out, &image, &config, &[layer(0)], None).unwrap();
    let expected = "\
image       nginx
digest      sha256:1
platform    linux/amd64
entrypoint  [\"/a b\",\"c\"]
env         A=1
env         B=2\\n

LAYER  DIGEST             SIZE  ENCODING  CREATED BY
    0  0123456789ab    29.7 MB  gzip      ADD file:1 in /\\x1b
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn the_summary_of_an_artifact_has_its_type_and_the_media_types_of_its_layers() {
    const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let artifact_type = Some("application/vnd.cncf.helm.config.v1+json".to_owned());
    let image =
        ImageFacts { reference: "chart".into(), digest: "sha256:1".into(), platform: None, artifact_type };
    let layer = LayerFacts { media_type: CHART.to_owned(), created_by: None, ..layer(0) };
    let mut out = Vec::new();
    summary(&mut out, &image, &ConfigFacts::default(), &[layer], None).unwrap();
    let expected = format!(
        "\
image       chart
digest      sha256:1
artifact    application/vnd.cncf.helm.config.v1+json

LAYER  DIGEST             SIZE  {:<51}  CREATED BY
    0  0123456789ab    29.7 MB  {CHART}
",
        "MEDIA TYPE"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn the_summary_fits_the_terminal() {
    let mut out = Vec::new();
    summary(&mut out, &ImageFacts::default(), &ConfigFacts::default(), &[layer(0)], Some(40)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
    assert!(text.ends_with("gzip…\n") || text.ends_with("…\n"), "{text}");
}

#[test]
fn an_image_without_layers_says_so() {
    let mut out = Vec::new();
    summary(&mut out, &ImageFacts::default(), &ConfigFacts::default(), &[], None).unwrap();
    assert!(String::from_utf8(out).unwrap().ends_with("\nno layers\n"));
}

#[test]
fn sizes_have_three_digits_and_a_decimal_unit() {
    for (bytes, expected) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (3_420_000, "3.42 MB"),
        (29_700_000, "29.7 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1.00 GB"),
        (9_996_000, "10.0 MB"),
        (u64::MAX, "18.4 EB"),
    ] {
        assert_eq!(size(bytes), expected);
    }
}

fn proof() -> Proof {
    Proof::new(layerslayer::Verification::Blob, false)
}
