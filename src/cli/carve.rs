//! `layerslayer carve`: extracts files, directories and matches of patterns.

use std::{ffi::OsStr, io::Write as _, os::unix::ffi::OsStrExt as _, path::Path};

use futures_util::FutureExt as _;
use layerslayer::{CarveOptions, Collection, Error, File, Image, Item, Outcome, Selection, Verification};

use super::{
    args::CarveArguments,
    blob,
    connect::{self, Connection},
    console::Console,
    destination::{
        Destination, Target, TextCheck,
        archive::Archive,
        tree::{Tree, TreeOptions},
    },
    exit::{Exit, Failure},
    output::{
        Listing as _, Row,
        facts::{ImageFacts, LayerFacts},
        json::Json,
        sanitize,
    },
    patterns::Patterns,
    plan,
    report::Report,
    selector,
};

/// One run of `carve`.
struct Carve<'a> {
    arguments: &'a CarveArguments,
    console: &'a Console,
    image: &'a Image,
    options: CarveOptions,
    patterns: Patterns,
}

/// The entries that were written and the requests that failed.
#[derive(Default)]
struct Written {
    items: Vec<(usize, layerslayer::Entry)>,
    failures: Vec<(Vec<u8>, Failure)>,
}

impl Written {
    /// A single file under the path that was requested, not the path that links resolve to.
    fn single(path: &OsStr, file: &File) -> Self {
        let mut entry = file.entry().clone();
        let names = path.as_bytes().split(|&byte| byte == b'/').filter(|name| !matches!(name, [] | [b'.']));
        entry.path = names.collect::<Vec<_>>().join(&b'/');
        Self { items: vec![(file.layer(), entry)], failures: Vec::new() }
    }
}

/// Runs `carve`.
pub(crate) async fn run(
    arguments: &CarveArguments,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    if let ([], [], Some(layer)) = (&*arguments.paths, &*arguments.globs, &arguments.layer) {
        return blob::run(arguments, layer, console, report).await;
    }
    let is_dry = arguments.common.dry_run;
    let destination = if is_dry { None } else { Some(Destination::of(arguments)?) };
    let patterns = Patterns::new(&arguments.globs)?;
    let mut options = CarveOptions::default().min_verification(arguments.common.min_verification());
    let (image, common) = (&arguments.image, &arguments.common);
    let opened = match (&destination, arguments.paths.as_slice(), &arguments.layer) {
        (Some(Destination::Single(_) | Destination::Directory(_)), [path], None) => {
            let request = (image.as_str(), path.as_bytes(), &options);
            let opened = connect::carve(request, common, console, report).await;
            opened.map(|(connection, file)| (connection, Some(file)))
        }
        _ => connect::open(image, common, console, report).await.map(|connection| (connection, None)),
    };
    let (Connection { client, image, writes: _writes }, found) =
        opened.inspect_err(|_| console.explain_requests(&[]))?;
    if let Some(layer) = &arguments.layer {
        options = options.layer(selector::layer(layer, &LayerFacts::of_all(&image).await?)?);
    }
    let Some(destination) = destination else {
        let facts = connect::facts(&client, &image, report).await?;
        let result = print_plan(arguments, &image, &facts, &options, console).await;
        report.read_by(&client);
        return result;
    };
    let carve = Carve { arguments, console, image: &image, options, patterns };
    let result = carve.to(&destination, found, report).await;
    console.explain_requests(image.layers());
    let facts = connect::facts(&client, &image, report);
    // After a failure, do not wait for the configuration.
    let facts = if result.is_ok() { Some(facts.await?) } else { facts.now_or_never().and_then(Result::ok) };
    report.read_by(&client);
    carve.conclude(result, facts)
}

/// Prints the reads that carving would make.
async fn print_plan(
    arguments: &CarveArguments,
    image: &Image,
    facts: &ImageFacts,
    options: &CarveOptions,
    console: &Console,
) -> Result<(), Failure> {
    let reads = image.plan(&selection(arguments)?, options).await?;
    plan::print(image, facts, &reads, arguments.common.json, console)
}

fn selection(arguments: &CarveArguments) -> Result<Selection, Failure> {
    Ok(match arguments.globs.as_slice() {
        [] => Selection::paths(arguments.paths.iter().map(|path| path.as_bytes())),
        globs => Selection::globs(globs.iter().filter_map(|glob| glob.to_str()))?,
    })
}

impl Carve<'_> {
    async fn to(
        &self,
        destination: &Destination,
        found: Option<Result<File, Error>>,
        report: &mut Report,
    ) -> Result<Written, Failure> {
        match (destination, self.arguments.paths.as_slice()) {
            (Destination::Single(target), [path]) => self.stream_to_target(path, found, target, report).await,
            (Destination::Directory(directory), [path]) => {
                match self.stream_to_directory(path, found, directory, report).await {
                    Err(failure) if failure.exit == Exit::WrongKind => {
                        self.collect_and_write(&Destination::Directory(directory.clone()), report).await
                    }
                    result => result,
                }
            }
            _ => self.collect_and_write(destination, report).await,
        }
    }

    /// Prints the `--json` lines if the image is known, and turns failures into the exit code.
    fn conclude(&self, result: Result<Written, Failure>, facts: Option<ImageFacts>) -> Result<(), Failure> {
        let facts = facts.filter(|_| self.arguments.common.json);
        let written = match result {
            Ok(written) => written,
            Err(failure) if facts.is_some() && !failure.messages.is_empty() => {
                let mut requested = self.arguments.paths.iter().chain(&self.arguments.globs);
                let path = requested.next().map_or(&b""[..], |path| path.as_bytes());
                Written { items: Vec::new(), failures: vec![(path.to_vec(), failure)] }
            }
            Err(failure) => return Err(failure),
        };
        if let Some(facts) = facts {
            self.print(&facts, &written).map_err(|error| Failure::writing("stdout", &error))?;
        }
        Failure::all(written.failures.into_iter().map(|(_, failure)| failure).collect())
    }

    fn print(&self, facts: &ImageFacts, written: &Written) -> std::io::Result<()> {
        let out = self.console.stdout().map_err(|_| std::io::ErrorKind::Other)?;
        let mut lines = Json::new(out);
        lines.image(facts)?;
        for (layer, entry) in &written.items {
            lines.entry(&Row { layer: *layer, entry, implied: false })?;
        }
        for (path, failure) in &written.failures {
            lines.failure(path, failure.exit.code(), &failure.messages.join("\n"))?;
        }
        lines.end()
    }

    /// Streams the content of one file to a file or stdout.
    async fn stream_to_target(
        &self,
        path: &OsStr,
        found: Option<Result<File, Error>>,
        target: &Target,
        report: &mut Report,
    ) -> Result<Written, Failure> {
        let mut file = self.find(path, found, report).await.map_err(|failure| match failure.exit {
            Exit::WrongKind => failure.advise("use -o DIR/ for directories, --tar for any other type"),
            _ => failure,
        })?;
        // Create the file only after the first piece has arrived, so that an early failure leaves nothing behind.
        let mut piece = file.next().await.transpose()?;
        let mut text = target.is_guarded_terminal().then(TextCheck::default);
        let mut check = |piece: &[u8]| {
            if text.as_mut().is_none_or(|text| text.is_text(piece)) {
                return Ok(());
            }
            let advice = "binary content or control sequences can mess up the terminal; use -o FILE to save the content or \
                          `-o -` to print it anyway";
            Err(Failure::new(Exit::Other, advice))
        };
        check(piece.as_deref().unwrap_or_default())?;
        let mut sink = target.open_for(self.console, file.entry())?;
        while let Some(bytes) = piece {
            sink.write_all(&bytes).map_err(|error| target.failure(&error))?;
            piece = file.next().await.transpose()?;
            check(piece.as_deref().unwrap_or_default())?;
        }
        if self.arguments.same_permissions {
            let lost = sink.apply_attributes(file.entry()).map_err(|error| target.failure(&error))?;
            self.warn_lost(lost);
        }
        sink.finish().map_err(|error| target.failure(&error))?;
        self.conclude_file(&file, report);
        Ok(Written::single(path, &file))
    }

    /// Streams the content of one file to a file of the same name in a directory.
    async fn stream_to_directory(
        &self,
        path: &OsStr,
        found: Option<Result<File, Error>>,
        directory: &Path,
        report: &mut Report,
    ) -> Result<Written, Failure> {
        let mut file = self.find(path, found, report).await?;
        let mut piece = file.next().await.transpose()?;
        let name = match Path::new(path).file_name() {
            Some(name) => name.as_bytes().to_vec(),
            None => file.resolved_path().rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec(),
        };
        let place = directory.join(OsStr::from_bytes(&name));
        let failed = |error: &std::io::Error| Failure::writing(place.display(), error);
        let mut tree = Tree::open(directory, self.tree_options(&[])).map_err(|error| failed(&error))?;
        let mut out = tree.create(&name, file.entry()).map_err(|error| failed(&error))?;
        while let Some(bytes) = piece {
            out.write_all(&bytes).map_err(|error| failed(&error))?;
            piece = file.next().await.transpose()?;
        }
        tree.finish(out).map_err(|error| failed(&error))?;
        self.warn_lost(tree.lost());
        self.conclude_file(&file, report);
        Ok(Written::single(path, &file))
    }

    /// Returns the file at `path`, using the result of an earlier lookup if there is one.
    async fn find(
        &self,
        path: &OsStr,
        found: Option<Result<File, Error>>,
        report: &mut Report,
    ) -> Result<File, Failure> {
        let found = match found {
            Some(found) => found,
            None => self.image.carve_with(path.as_bytes(), &self.options).await,
        };
        let file = found.map_err(|error| {
            let failure = Failure::from(&error);
            match path.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
                true if error.is_not_found() => {
                    failure.advise("PATH is taken literally; use --glob for patterns")
                }
                _ => failure,
            }
        })?;
        let layer = self.image.layer(file.layer())?;
        report.file(file.resolved_path(), (file.layer(), layer.digest().to_string()), file.entry().size);
        Ok(file)
    }

    /// Reports a file whose content has been read to its end.
    fn conclude_file(&self, file: &File, report: &mut Report) {
        if self.arguments.explain {
            file.trace().iter().for_each(|line| self.console.explain(line));
        }
        if let Some(outcome) = file.outcome() {
            self.report_outcome(outcome, report);
        }
    }

    fn report_outcome(&self, outcome: Outcome, report: &mut Report) {
        report.outcome(&outcome);
        if outcome.verification == Verification::None {
            self.console.note("not verified; --verify reads the whole layer");
        }
    }

    /// Collects paths, directories and patterns, then writes them.
    async fn collect_and_write(
        &self,
        destination: &Destination,
        report: &mut Report,
    ) -> Result<Written, Failure> {
        if let Destination::Archive(target) = destination
            && target.is_guarded_terminal()
        {
            let advice =
                "a tar archive can mess up the terminal; use -o FILE to save it or `-o -` to print it anyway";
            return Err(Failure::new(Exit::Other, advice));
        }
        let selection = selection(self.arguments)?;
        let collection = self.image.collect(&selection, &self.options).await?;
        let failures = collection.failures().iter();
        let mut failures: Vec<_> =
            failures.map(|(path, error)| (path.clone(), Failure::from(error))).collect();
        let items: Vec<Item> = collection.items().to_vec();
        failures.extend(self.unmatched_patterns(&items));
        if self.arguments.explain {
            self.explain(&collection, &items);
        }
        if !items.is_empty() {
            match destination {
                Destination::Archive(target) | Destination::Single(target) => {
                    self.write_archive(&collection, &items, target)?;
                }
                Destination::Directory(directory) => self.write_tree(&collection, &items, directory)?,
            }
            self.report_outcome(collection.outcome(), report);
        }
        let items = items.into_iter().map(|item| {
            let mut entry = item.entry;
            entry.path = item.path;
            (item.layer, entry)
        });
        Ok(Written { items: items.collect(), failures })
    }

    /// The patterns that match none of `items`.
    fn unmatched_patterns(&self, items: &[Item]) -> Vec<(Vec<u8>, Failure)> {
        let mut patterns = self.patterns.clone();
        for item in items {
            patterns.select(&item.path);
        }
        let unused = patterns.unused(&format!("carving from {}", self.arguments.image));
        unused.into_iter().map(|(pattern, failure)| (pattern.as_bytes().to_vec(), failure)).collect()
    }

    fn explain(&self, collection: &Collection, items: &[Item]) {
        for (requested, trace) in collection.traces() {
            let path = self.arguments.paths.get(requested).map(|path| sanitize::name(path.as_bytes()));
            let prefix = path.map(|path| format!("{path}: ")).unwrap_or_default();
            trace.iter().for_each(|line| self.console.explain(&format!("{prefix}{line}")));
        }
        if !self.arguments.globs.is_empty() {
            for item in items {
                self.console.explain(&format!("{}: from layer {}", sanitize::name(&item.path), item.layer));
            }
        }
    }

    fn write_archive(&self, collection: &Collection, items: &[Item], target: &Target) -> Result<(), Failure> {
        let mut archive = Archive::new(target.open(self.console)?);
        for item in items {
            archive
                .write(&item.path, &item.entry, item.hardlink_to.as_deref(), collection.open(item))
                .map_err(|error| target.failure(&error))?;
        }
        let sink = archive.finish().map_err(|error| target.failure(&error))?;
        sink.finish().map_err(|error| target.failure(&error))
    }

    fn write_tree(&self, collection: &Collection, items: &[Item], directory: &Path) -> Result<(), Failure> {
        let failed = |path: &Path, error: &std::io::Error| Failure::writing(path.display(), error);
        let mut tree =
            Tree::open(directory, self.tree_options(items)).map_err(|error| failed(directory, &error))?;
        for item in items {
            tree.write(&item.path, &item.entry, item.hardlink_to.as_deref(), collection.open(item))
                .map_err(|error| failed(&directory.join(OsStr::from_bytes(&item.path)), &error))?;
        }
        tree.close().map_err(|error| failed(directory, &error))?;
        self.warn_lost(tree.lost());
        Ok(())
    }

    fn tree_options(&self, items: &[Item]) -> TreeOptions {
        let files = items.iter().filter(|item| item.hardlink_to.is_none());
        TreeOptions {
            same_permissions: self.arguments.same_permissions,
            devices: self.arguments.devices,
            copy_bytes: files.map(|item| item.entry.size).fold(0, u64::saturating_add),
        }
    }

    fn warn_lost(&self, lost: Vec<String>) {
        if !lost.is_empty() {
            self.console.warning(&format!("not restored: {}", lost.join(", ")));
        }
    }
}
