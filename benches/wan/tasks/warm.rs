//! Files of layers that are in the cache.

use std::path::Path;

use super::{
    super::{
        depth,
        programs::Transport,
        table::{Table, Target},
        tools,
        world::{Candidate, World},
    },
    OURS, TRANSPORTS, add,
};

/// Lowest offset of the deep file of the newest layer, in compressed bytes.
const DEEP: u64 = 100_000_000;

/// Small files of the base and the newest layer, after listing every layer, and after reading the file itself once.
pub(crate) fn warm(world: &World, table: &mut Table) {
    let layers = world.images.layers("ml");
    let (base, newest) = (layers.first().expect("layers"), layers.last().expect("layers"));
    let files = [("base", depth::file(&base.file, "etc/passwd"))]
        .into_iter()
        .chain(depth::small_file_from(&newest.file, DEEP).map(|file| ("newest layer", file)));
    // Neither the link nor the host's name matters for filling the cache: TOCs are stored by digest.
    let direct = world.direct();
    for (place, file) in files {
        let path = format!("/{}", file.path);
        for (seen, fill) in [
            ("after `peek --all`", vec!["peek", "--all"]),
            ("after the same `carve`", vec!["carve", path.as_str()]),
        ] {
            let cache = tools::temporary_folder();
            let arguments = |host: &str, words: &[&str]| -> Vec<String> {
                let mut arguments: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
                arguments.insert(1, format!("{host}/ml:latest"));
                arguments
            };
            let run = |transport: Option<Transport>, cache: &Path, words: &[&str]| {
                let host = transport.map_or_else(|| direct.clone(), |transport| world.host(transport));
                let arguments = arguments(&host.name, words);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                world.programs.ours(&host, Some(cache), &arguments)
            };
            tools::run(&mut run(None, cache.path(), &fill));
            for transport in TRANSPORTS {
                // Tags are cached by host: this resolves the tag.
                tools::run(&mut run(Some(transport), cache.path(), &["peek"]));
                let warm = || {
                    let command = run(Some(transport), cache.path(), &["carve", &path]);
                    world.run(transport, command, &file.content)
                };
                let candidates: Vec<Candidate<'_>> = vec![(OURS.to_owned(), Box::new(warm))];
                let results = world.compare(candidates);
                let targets = [Target::requests(2.0), Target::bytes(0.35e6), Target::seconds(0.20)];
                let task = format!("Warm, small file of the {place}, {seen}");
                add(table, &task, transport, &results, &targets);
            }
        }
    }
}
