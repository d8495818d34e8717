//! The files of the page: ours, and those of noVNC.

use gx_server::page::File;

macro_rules! ours {
    ($($path:literal),* $(,)?) => {
        [$(File { path: $path, bytes: include_bytes!(concat!("../../../assets/desktop/", $path)) }),*]
    };
}

macro_rules! novnc {
    ($($path:literal),* $(,)?) => {
        [$(File {
            path: concat!("novnc/", $path),
            bytes: include_bytes!(concat!("../../../assets/novnc/", $path)),
        }),*]
    };
}

const OURS: [File; 4] = ours!["icon.svg", "index.html", "page.css", "page.js"];

#[rustfmt::skip] // one a line, so that a change of version reads as one
const NOVNC: [File; 52] = novnc![
    "core/base64.js",
    "core/crypto/aes.js",
    "core/crypto/bigint.js",
    "core/crypto/crypto.js",
    "core/crypto/des.js",
    "core/crypto/dh.js",
    "core/crypto/md5.js",
    "core/crypto/rsa.js",
    "core/decoders/copyrect.js",
    "core/decoders/h264.js",
    "core/decoders/hextile.js",
    "core/decoders/jpeg.js",
    "core/decoders/raw.js",
    "core/decoders/rre.js",
    "core/decoders/tight.js",
    "core/decoders/tightpng.js",
    "core/decoders/zlib.js",
    "core/decoders/zrle.js",
    "core/deflator.js",
    "core/display.js",
    "core/encodings.js",
    "core/inflator.js",
    "core/input/domkeytable.js",
    "core/input/fixedkeys.js",
    "core/input/gesturehandler.js",
    "core/input/keyboard.js",
    "core/input/keysym.js",
    "core/input/keysymdef.js",
    "core/input/util.js",
    "core/input/vkeys.js",
    "core/input/xtscancodes.js",
    "core/ra2.js",
    "core/rfb.js",
    "core/util/browser.js",
    "core/util/cursor.js",
    "core/util/element.js",
    "core/util/events.js",
    "core/util/eventtarget.js",
    "core/util/int.js",
    "core/util/logging.js",
    "core/util/strings.js",
    "core/websock.js",
    "vendor/pako/lib/utils/common.js",
    "vendor/pako/lib/zlib/adler32.js",
    "vendor/pako/lib/zlib/crc32.js",
    "vendor/pako/lib/zlib/deflate.js",
    "vendor/pako/lib/zlib/inffast.js",
    "vendor/pako/lib/zlib/inflate.js",
    "vendor/pako/lib/zlib/inftrees.js",
    "vendor/pako/lib/zlib/messages.js",
    "vendor/pako/lib/zlib/trees.js",
    "vendor/pako/lib/zlib/zstream.js",
];

/// Everything there is below the page's address.
pub(super) static FILES: [File; OURS.len() + NOVNC.len()] = joined();

const fn joined() -> [File; OURS.len() + NOVNC.len()] {
    let mut all = [OURS[0]; OURS.len() + NOVNC.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < OURS.len() { OURS[at] } else { NOVNC[at - OURS.len()] };
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a module imports, as paths below the page's address.
    fn imports(file: &File) -> Vec<String> {
        let text = std::str::from_utf8(file.bytes).unwrap();
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let quoted =
            text.lines().filter(|line| line.contains("import ") || line.contains("from ")).filter_map(
                |line| line.split(['"', '\'']).find(|word| word.starts_with("./") || word.starts_with("../")),
            );
        quoted.map(|path| resolved(folder, path)).collect()
    }

    fn resolved(folder: &str, path: &str) -> String {
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    #[test]
    fn every_module_that_is_imported_is_there_and_no_other() {
        let scripts = || FILES.iter().filter(|file| file.path.ends_with(".js"));
        let mut wanted: Vec<String> = scripts().flat_map(imports).collect();
        wanted.push("page.js".to_owned());
        wanted.sort();
        wanted.dedup();
        let mut there: Vec<&str> = scripts().map(|file| file.path).collect();
        there.sort_unstable();
        assert_eq!(there, wanted);
    }
}
