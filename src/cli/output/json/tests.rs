use layerslayer::{Timestamp, Verification};
use serde_json::Value;

use super::*;

fn lines(write: impl FnOnce(&mut Json<&mut Vec<u8>>) -> io::Result<()>) -> Vec<String> {
    let mut out = Vec::new();
    write(&mut Json::new(&mut out)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(ToOwned::to_owned).collect()
}

fn entry_line(entry: &Entry) -> String {
    let lines = lines(|json| json.entry(&Row { layer: 3, entry, implied: false }));
    assert_eq!(lines.len(), 1);
    lines[0].clone()
}

#[test]
fn a_listing_has_its_lines_and_keys_in_order() {
    let image = ImageFacts {
        reference: "r".into(),
        digest: "d".into(),
        platform: Some("linux/amd64".into()),
        artifact_type: None,
    };
    let config = ConfigFacts { user: Some("me".into()), cmd: vec!["sh".into()], ..ConfigFacts::default() };
    let layer = LayerFacts {
        index: 0,
        digest: "sha256:1".into(),
        diff_id: Some("sha256:2".into()),
        media_type: "m".into(),
        size: 5,
        created_by: Some("RUN a \"b\"".into()),
    };
    let bare = LayerFacts { index: 1, diff_id: None, created_by: None, ..layer.clone() };
    let written = lines(|json| {
        json.image(&image)?;
        json.config(&config)?;
        json.layer(&layer)?;
        json.layer_end(0, 7, &Proof::new(Verification::Blob, false))?;
        json.layer(&bare)?;
        json.rootfs_end(9, &Proof::new(Verification::Chunk, true))?;
        json.failure(b"etc/\xff", 3, "no such path")?;
        json.end()
    });
    let expected = [
        r#"{"type":"image","schema":1,"reference":"r","digest":"d","platform":"linux/amd64"}"#,
        r#"{"type":"config","user":"me","cmd":["sh"]}"#,
        r#"{"type":"layer","layer":0,"digest":"sha256:1","diff_id":"sha256:2","media_type":"m","size":5,"created_by":"RUN a \"b\""}"#,
        r#"{"type":"layer_end","layer":0,"entries":7,"verified":"blob","source":"tar"}"#,
        r#"{"type":"layer","layer":1,"digest":"sha256:1","media_type":"m","size":5}"#,
        r#"{"type":"rootfs_end","entries":9,"verified":"chunk","source":"publisher-toc"}"#,
        "{\"type\":\"failure\",\"path\":\"etc/\u{fffd}\",\"path_bytes\":\"ZXRjL/8=\",\"exit\":3,\"error\":\"no such path\"}",
        r#"{"type":"end","complete":true}"#,
    ];
    assert_eq!(written, expected);
}

#[test]
fn an_entry_has_every_key_that_applies() {
    let mut entry = Entry::new("etc/passwd", EntryKind::File);
    entry.size = 839;
    entry.mode = 0o4644;
    entry.uname = b"root".to_vec();
    entry.gname = b"wheel".to_vec();
    entry.mtime = Timestamp { seconds: 1_704_067_200, nanoseconds: 1 };
    entry.xattrs.insert(b"user.a".to_vec(), b"\0\xff".to_vec());
    let expected = r#"{"type":"entry","layer":3,"path":"etc/passwd","kind":"file","size":839,"mode":"4644","uid":0,"gid":0,"uname":"root","gname":"wheel","mtime":"2024-01-01T00:00:00.000000001Z","xattrs":{"user.a":"AP8="}}"#;
    assert_eq!(entry_line(&entry), expected);
}

#[test]
fn keys_that_do_not_apply_are_absent() {
    let mut symlink = Entry::new("bin", EntryKind::Symlink);
    symlink.link = b"usr/bin".to_vec();
    symlink.mode = 0o777;
    let line: Value = serde_json::from_str(&entry_line(&symlink)).unwrap();
    assert_eq!(line["link"], "usr/bin");
    assert_eq!(line["mode"], "0777");
    for absent in ["size", "uname", "gname", "link_bytes", "path_bytes", "dev", "xattrs", "implied"] {
        assert_eq!(line.get(absent), None, "{absent}");
    }
    let mut device = Entry::new("dev/null", EntryKind::Char);
    device.device = Some((1, 3));
    let line: Value = serde_json::from_str(&entry_line(&device)).unwrap();
    assert_eq!((&line["kind"], &line["dev"]), (&Value::from("char"), &serde_json::json!([1, 3])));
    let whiteout = entry_line(&Entry::new("etc/motd", EntryKind::Whiteout));
    assert_eq!(whiteout, r#"{"type":"entry","layer":3,"path":"etc/motd","kind":"whiteout"}"#);
}

#[test]
fn an_implied_directory_has_only_a_path() {
    let entry = Entry::new("usr", EntryKind::Directory);
    let lines = lines(|json| json.entry(&Row { layer: 0, entry: &entry, implied: true }));
    assert_eq!(lines, [r#"{"type":"entry","layer":0,"path":"usr","kind":"dir","implied":true}"#]);
}

#[test]
fn names_that_are_not_utf8_are_exact_in_base64() {
    let mut entry = Entry::new(&b"a\nb\x1b\xff"[..], EntryKind::Symlink);
    entry.link = b"\xfe".to_vec();
    let line: Value = serde_json::from_str(&entry_line(&entry)).unwrap();
    let bytes = |key: &str| BASE64_STANDARD.decode(line[key].as_str().unwrap()).unwrap();
    assert_eq!(bytes("path_bytes"), entry.path);
    assert_eq!(bytes("link_bytes"), entry.link);
    let plain = Entry::new("a\nb\x1b\u{202e}", EntryKind::File);
    let line: Value = serde_json::from_str(&entry_line(&plain)).unwrap();
    assert_eq!(line["path"], "a\nb\x1b\u{202e}");
    assert_eq!(line.get("path_bytes"), None);
}

#[test]
fn a_long_value_is_written_once() {
    let long = vec![b'x'; 60_000];
    let mut first = Entry::new("a", EntryKind::Symlink);
    (first.uname, first.gname, first.link) = (long.clone(), long.clone(), long.clone());
    first.xattrs.insert(b"user.a".to_vec(), long.clone());
    first.xattrs.insert(b"user.b".to_vec(), b"short".to_vec());
    let mut second = first.clone();
    second.path = b"b".to_vec();
    let rows = lines(|json| {
        json.entry(&Row { layer: 0, entry: &Entry::new("base", EntryKind::File), implied: false })?;
        json.entry(&Row { layer: 0, entry: &first, implied: false })?;
        json.entry(&Row { layer: 0, entry: &second, implied: false })
    });
    let line = |index: usize| serde_json::from_str::<Value>(&rows[index]).unwrap();
    let text = Value::from(String::from_utf8(long.clone()).unwrap());
    let whole = line(1);
    assert_eq!((&whole["uname"], &whole["gname"], &whole["link"]), (&text, &text, &text));
    assert_eq!((&whole["xattrs"]["user.a"], whole.get("same_as")), (&base64(&long).into(), None));
    assert!(rows[2].len() < 1000, "{} bytes", rows[2].len());
    let repeated = line(2);
    let expected = serde_json::json!({ "uname": 1, "gname": 1, "link": 1, "xattrs": { "user.a": 1 } });
    assert_eq!(repeated["same_as"], expected);
    assert_eq!(repeated["xattrs"], serde_json::json!({ "user.b": base64(b"short") }));
    for absent in ["uname", "gname", "link", "link_bytes"] {
        assert_eq!(repeated.get(absent), None, "{absent}");
    }
}

#[test]
fn a_time_outside_the_calendar_is_absent() {
    let mut entry = Entry::new("a", EntryKind::File);
    entry.mtime.seconds = i64::MAX;
    let line: Value = serde_json::from_str(&entry_line(&entry)).unwrap();
    assert_eq!(line.get("mtime"), None);
}
