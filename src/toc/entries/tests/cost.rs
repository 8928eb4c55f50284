//! The cost of hostile layers in steps, which must be linear in their size.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::tar::{Decoder, Event};

/// A block of a ustar header.
fn header(type_flag: u8, name: &str, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[148..156].fill(b' ');
    block[156] = type_flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn extended(type_flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in records {
        let text = format!(" {key}={value}\n");
        let length = (text.len()..).find(|length| text.len() + length.to_string().len() == *length).unwrap();
        content += &format!("{length}{text}");
    }
    let mut member = header(type_flag, "x", content.len());
    member.extend(content.bytes());
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// A part of a hostile layer: `count` entries, made to cost more than their bytes.
#[derive(Clone, Copy, Debug)]
enum Part {
    BelowDeepLinks { depth: usize },
    GlobalNames,
    GlobalXattr { length: usize },
    HardLinksThroughLinks { depth: usize },
    LinkChain,
    OneName,
    OwnXattrs { count: usize },
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (1_usize..4_000).prop_map(|depth| Part::BelowDeepLinks { depth }),
        Just(Part::GlobalNames),
        (1_usize..60_000).prop_map(|length| Part::GlobalXattr { length }),
        (1_usize..4_000).prop_map(|depth| Part::HardLinksThroughLinks { depth }),
        Just(Part::LinkChain),
        Just(Part::OneName),
        (1_usize..300).prop_map(|count| Part::OwnXattrs { count }),
    ]
}

fn write(part: Part, count: usize, tar: &mut Vec<u8>) {
    let deep = |depth: usize| "d/".repeat(depth);
    let link = |name: &str, target: &str, tar: &mut Vec<u8>| {
        tar.extend(extended(b'x', &[("linkpath", target)]));
        tar.extend(header(b'2', name, 0));
    };
    match part {
        Part::BelowDeepLinks { depth } | Part::HardLinksThroughLinks { depth } => {
            for name in ["l", "m"] {
                link(name, &deep(depth), tar);
            }
        }
        Part::GlobalNames => {
            tar.extend(extended(b'g', &[("path", &deep(4_000)), ("linkpath", &deep(4_000))]));
        }
        Part::GlobalXattr { length } => {
            tar.extend(extended(b'g', &[("SCHILY.xattr.user.a", &"v".repeat(length))]));
        }
        Part::LinkChain | Part::OneName | Part::OwnXattrs { .. } => {}
    }
    for number in 0..count {
        let name = if number % 2 == 0 { "l" } else { "m" };
        match part {
            Part::BelowDeepLinks { .. } => tar.extend(header(b'0', &format!("{name}/{number}"), 0)),
            Part::GlobalNames => tar.extend(header(if number % 2 == 0 { b'0' } else { b'1' }, "x", 0)),
            Part::GlobalXattr { .. } => tar.extend(header(b'0', &format!("f{number}"), 0)),
            Part::HardLinksThroughLinks { .. } => {
                tar.extend(extended(b'x', &[("linkpath", &format!("{name}/x"))]));
                tar.extend(header(b'1', &format!("h{number}"), 0));
            }
            Part::LinkChain => {
                link(&format!("c{number}"), &format!("c{}", number + 1), tar);
                tar.extend(header(b'0', &format!("c{}/x", number.saturating_sub(40)), 0));
            }
            Part::OneName => tar.extend(header(b'0', "same", 0)),
            Part::OwnXattrs { count } => {
                let names: Vec<String> = (0..count).map(|name| format!("SCHILY.xattr.{name}")).collect();
                let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
                tar.extend(extended(b'x', &records));
                tar.extend(header(b'0', &format!("a{number}"), 0));
            }
        }
    }
}

/// Bytes that the decoder makes of the archive, and the memory and the steps through links of the tree.
fn cost(tar: &[u8]) -> (usize, u64, u64) {
    let (mut tree, mut decoder, mut rest) = (EntryTree::new(), Decoder::new(), tar);
    let (mut decoded, mut last) = (0, Xattrs::default());
    while let Some(event) = decoder.decode(&mut rest).unwrap() {
        let Event::Entry(entry) = event else { continue };
        decoded += entry.path.len() + entry.link.len() + entry.uname.len() + entry.gname.len();
        if !entry.xattrs.is_shared_with(&last) {
            decoded += entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            last.clone_from(&entry.xattrs);
        }
        if tree.insert(&entry).is_err() {
            break;
        }
    }
    (decoded, tree.kept_bytes(), tree.link_steps)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_cost_of_hostile_layers_is_linear_in_their_size(
        parts in vec((part(), 100_usize..1_500), 1..4),
    ) {
        let mut tar = Vec::new();
        for (part, count) in parts {
            write(part, count, &mut tar);
        }
        let size = tar.len();
        let (decoded, kept, steps) = cost(&tar);
        // Two global names of 16 KiB for each block, at most.
        prop_assert!(decoded <= 64 * size + (1 << 20), "{decoded} bytes of {size}");
        // An attribute without a value has 16 bytes in the archive, and its overhead in memory.
        prop_assert!(kept <= 64 * size as u64 + (1 << 20), "{kept} bytes of {size}");
        let earned = size as u64 / 512 * limits::LINK_STEPS_PER_BLOCK;
        prop_assert!(steps <= limits::LINK_STEPS + earned + 20_000, "{steps} steps of {size}");
    }
}
