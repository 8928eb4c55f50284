//! The texts that `--help` prints below the options.

pub(super) const EXAMPLES: &str = "\
Examples:
  layerslayer peek nginx:alpine                     layers and configuration; reads no layer
  layerslayer peek nginx:alpine --rootfs 'etc/*'    files as a container sees them
  layerslayer carve ubuntu:24.04 /etc/passwd        one file, to stdout
  layerslayer carve oci:build/image /app -o out/    a directory, from an OCI layout

Exit status: 0 done, 1 other failure, 2 usage, 3 not in the image, 4 deleted by a newer layer, \
5 not a file, 6 not authorised, 7 unavailable, 8 corrupt, 9 no such image";

pub(super) const PEEK_EXAMPLES: &str = "\
Examples:
  layerslayer peek nginx:alpine                     layers and configuration; reads no layer
  layerslayer peek nginx:alpine --all               the contents of every layer, base first
  layerslayer peek nginx:alpine --layer 1           the contents of one layer
  layerslayer peek nginx:alpine --rootfs etc        /etc as a container sees it
  layerslayer peek nginx:alpine --all '**/*.conf' --json

Listings look like `tar -tv`, with times in UTC. Two entry types exist only in layers: `w` is a whiteout \
(removes the path from lower layers) and `o` an opaque directory (hides everything lower layers have in it). \
Unprintable bytes in names are escaped.

A GLOB matches whole paths: `*` and `?` do not match `/`, `**` does. A GLOB without a wildcard in its last \
component also selects everything below that path.";

pub(super) const CARVE_EXAMPLES: &str = "\
Examples:
  layerslayer carve ubuntu:24.04 /etc/passwd                 to stdout
  layerslayer carve ubuntu:24.04 /etc/passwd -o passwd       to a file
  layerslayer carve ubuntu:24.04 /etc/apt /etc/hosts -o out/ to out/etc/apt/… and out/etc/hosts
  layerslayer carve ubuntu:24.04 --glob 'etc/*.conf' --tar | tar -tv
  layerslayer carve ubuntu:24.04 /bin/sh --explain > sh

Links are followed inside the image, as in a container. A file that a newer layer deleted is an error (exit 4).";

pub(super) const CACHE_NOTES: &str = "\
The cache directory is $LAYERSLAYER_CACHE_DIR if set, otherwise `layerslayer` in $XDG_CACHE_HOME or ~/.cache. The \
size limit is $LAYERSLAYER_CACHE_SIZE [default: 2G]; beyond it, the least recently used entries are evicted. Other \
commands bypass the cache with `--no-cache`.";

pub(super) const TOC_NOTES: &str = "\
A layer TOC lists the entries of a layer and where their content is, so that one file can be fetched with one \
request. Set $LAYERSLAYER_TOC_STORE to share TOCs between machines: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
az://CONTAINER/PREFIX or file:///DIRECTORY (builds with the feature `object-store`). $LAYERSLAYER_TOC_KEY lists key \
files, separated by colons: TOCs signed with one of these keys are trusted, and a private key signs and shares \
the TOCs that this machine builds.";

pub(super) const TOC_BUILD_NOTES: &str = "\
Prints one line per layer, base first: digest, `made` or `kept` (already in the cache), size of the TOC and number \
of entries. Every layer that is read is verified.";

pub(super) const TOC_PUSH_NOTES: &str = "\
Builds missing TOCs first, like `toc build`, and signs all of them with the private key in $LAYERSLAYER_TOC_KEY. \
Anyone with the public key in $LAYERSLAYER_TOC_KEY finds and trusts them. Prints the digest of the pushed artifact.";
