//! Paths as archives write them, brought to one form.

/// Brings a path into the form of [`Entry::path`](crate::tar::entry::Entry::path): `./a//b/../c/`, `/a/c` and `a/c` are
/// equal. `..` never leaves the root; runtimes resolve it lexically in the same way.
pub(crate) fn normalise(raw: &[u8]) -> Vec<u8> {
    if is_normal(raw) {
        return raw.to_vec();
    }
    let mut path = Vec::with_capacity(raw.len());
    for component in raw.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    path
}

/// Whether the path is in that form already. Nearly every path is, and the check is cheaper than rebuilding it.
fn is_normal(raw: &[u8]) -> bool {
    raw.split(|&byte| byte == b'/').all(|component| !matches!(component, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (raw, path) in [
            ("./a//b/../c/", "a/c"),
            ("/x", "x"),
            ("x/", "x"),
            ("x", "x"),
            ("a/b/c", "a/b/c"),
            ("../../etc", "etc"),
            ("a/../../etc", "etc"),
            ("a/b/../../..", ""),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("", ""),
            ("..", ""),
            ("...", "..."),
            ("a/..b/.c", "a/..b/.c"),
            ("/a/./b/.", "a/b"),
        ] {
            assert_eq!(String::from_utf8_lossy(&normalise(raw.as_bytes())), path, "{raw:?}");
        }
        assert_eq!(normalise(b"./\xff\n"), b"\xff\n");
    }
}
