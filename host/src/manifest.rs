//! Reading a plugin's manifest out of its file without loading it: a library's constructors run at `dlopen`, before
//! any check could.
//!
//! The manifest lies in a section of its own. Where that was stripped of its name, the exported symbol leads to it.

use std::fs::File;
use std::path::Path;

use gx_core::plugin::abi::{MANIFEST_SYMBOL, SECTION};
use gx_core::plugin::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError, known_apis};
use object::elf::{self, FileHeader64, Machine};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, ReadCache, ReadRef};

use crate::error::HostError;

/// The largest file that is looked at.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_SECTIONS: usize = 4_096;
const MAX_SYMBOLS: usize = 65_536;
const HEADER_BYTES: u64 = 16;

type Header = FileHeader64<Endianness>;

/// Reads the manifest of a plugin that this program can load: its machine, ABI and trait versions fit.
pub(crate) fn read(file: &File, path: &Path) -> Result<Manifest, HostError> {
    let size = file.metadata().map_err(HostError::io("read", path))?.len();
    if size > MAX_FILE_BYTES {
        return Err(HostError::not_a_plugin(path, "it is larger than 1 GiB"));
    }
    // A duplicate shares the position, which `ReadCache` always sets before it reads.
    let shared = file.try_clone().map_err(HostError::io("read", path))?;
    from_data(&ReadCache::new(shared), path)
}

fn from_data<'data>(data: impl ReadRef<'data>, path: &Path) -> Result<Manifest, HostError> {
    let header = header(data, path)?;
    let damaged = |error: object::Error| {
        HostError::not_a_plugin(path, format!("its ELF headers are damaged ({error})"))
    };
    let endian = header.endian().map_err(damaged)?;
    let sections = header.sections(endian, data).map_err(damaged)?;
    if sections.len() > MAX_SECTIONS {
        return Err(HostError::not_a_plugin(path, "it has more than 4096 sections"));
    }
    let bytes = match by_section(endian, data, &sections) {
        Some(bytes) => bytes,
        None => by_symbol(endian, data, header, &sections)
            .ok_or_else(|| HostError::not_a_plugin(path, "it is a library without a plugin manifest"))?,
    };
    let manifest = Manifest::from_section(bytes).map_err(|error| of_manifest(error, path, None))?;
    manifest.common_api().map_err(|error| of_manifest(error, path, Some(&manifest)))?;
    Ok(manifest)
}

fn header<'data>(data: impl ReadRef<'data>, path: &Path) -> Result<&'data Header, HostError> {
    let start = data.len().and_then(|size| data.read_bytes_at(0, size.min(20))).unwrap_or_default();
    if !start.starts_with(&elf::ELFMAG) {
        return Err(HostError::not_a_plugin(path, what_else(start)));
    }
    let little = start.get(5) == Some(&elf::ELFDATA2LSB.0);
    let number = |at: usize| match start.get(at..at + 2) {
        Some(&[a, b]) if little => u16::from_le_bytes([a, b]),
        Some(&[a, b]) => u16::from_be_bytes([a, b]),
        _ => 0,
    };
    let found = machine(Machine(number(18)), start.get(4) == Some(&elf::ELFCLASS64.0), little);
    if found != std::env::consts::ARCH {
        let path = path.to_owned();
        return Err(HostError::OtherMachine { path, found, wanted: std::env::consts::ARCH });
    }
    if number(16) != elf::ET_DYN.0 {
        return Err(HostError::not_a_plugin(path, "it is an ELF file but not a shared library"));
    }
    Header::parse(data).map_err(|_| HostError::not_a_plugin(path, "its ELF header is cut off"))
}

fn what_else(start: &[u8]) -> &'static str {
    match start {
        [] => "it is empty",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "it is built for macOS",
        [b'M', b'Z', ..] => "it is built for Windows",
        [b'#', b'!', ..] => "it is a script",
        _ => "it is not an ELF file",
    }
}

// Named as `std::env::consts::ARCH` names them.
fn machine(machine: Machine, wide: bool, little: bool) -> String {
    match (machine, wide, little) {
        (elf::EM_X86_64, true, true) => "x86_64".to_owned(),
        (elf::EM_AARCH64, true, true) => "aarch64".to_owned(),
        (elf::EM_RISCV, true, true) => "riscv64".to_owned(),
        (elf::EM_PPC64, true, _) => "powerpc64".to_owned(),
        (elf::EM_S390, true, false) => "s390x".to_owned(),
        (elf::EM_LOONGARCH, true, true) => "loongarch64".to_owned(),
        (elf::EM_386, ..) => "x86".to_owned(),
        (elf::EM_ARM, ..) => "arm".to_owned(),
        (Machine(number), ..) => format!("ELF machine {number}"),
    }
}

fn by_section<'data, R: ReadRef<'data>>(
    endian: Endianness,
    data: R,
    sections: &SectionTable<'data, Header, R>,
) -> Option<&'data [u8]> {
    let (_, section) = sections.section_by_name(endian, SECTION.as_bytes())?;
    let size = section.sh_size(endian).min(HEADER_BYTES + MAX_MANIFEST_BYTES as u64);
    data.read_bytes_at(section.sh_offset(endian), size).ok()
}

fn by_symbol<'data, R: ReadRef<'data>>(
    endian: Endianness,
    data: R,
    header: &'data Header,
    sections: &SectionTable<'data, Header, R>,
) -> Option<&'data [u8]> {
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
    let symbol = symbols.iter().take(MAX_SYMBOLS).find(|symbol| {
        symbol.name(endian, symbols.strings()).is_ok_and(|name| name == MANIFEST_SYMBOL.as_bytes())
    })?;
    let address = symbol.st_value(endian);
    let size = symbol.st_size(endian).min(HEADER_BYTES + MAX_MANIFEST_BYTES as u64);
    let segments = header.program_headers(endian, data).ok()?;
    segments.iter().find_map(|segment| {
        use object::read::elf::ProgramHeader;
        let within = address.checked_sub(segment.p_vaddr(endian))?;
        let fits = segment.p_type(endian) == elf::PT_LOAD && within < segment.p_filesz(endian);
        let at = segment.p_offset(endian).checked_add(within)?;
        fits.then(|| data.read_bytes_at(at, size).ok()).flatten()
    })
}

fn of_manifest(error: ManifestError, path: &Path, manifest: Option<&Manifest>) -> HostError {
    match (error, manifest) {
        (ManifestError::Abi(mismatch), _) => HostError::OtherAbi { path: path.to_owned(), mismatch },
        (ManifestError::Api { theirs, .. }, Some(manifest)) => HostError::OtherApi {
            name: manifest.name.clone(),
            offered: theirs,
            wanted: known_apis(manifest.kind),
        },
        (error, _) => HostError::not_a_plugin(path, error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "name = \"runc\"\nversion = \"0.1.0\"\nkind = \"runtime\"\napi = [\"runtime/1\"]\n";

    /// Makes an ELF file with nothing but a manifest in its section, or behind its symbol.
    pub(crate) fn library(text: &str, abi: (u16, u16)) -> Vec<u8> {
        elf_file(&section(text, abi), SECTION)
    }

    fn section(text: &str, abi: (u16, u16)) -> Vec<u8> {
        let mut bytes = b"GXPLUGIN".to_vec();
        bytes.extend(abi.0.to_ne_bytes());
        bytes.extend(abi.1.to_ne_bytes());
        bytes.extend((text.len() as u32).to_ne_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    // ELF64 (System V ABI, chapter 4): header, one PT_LOAD segment, names, symbol, content, five section headers.
    fn elf_file(content: &[u8], name: &str) -> Vec<u8> {
        let shape = Shape::of(content, name);
        let mut file = shape.header();
        let all = shape.table_at + 5 * 64;
        words(&mut file, &[1 | (4 << 32), 0, 0, 0, all, all, 4096]); // PT_LOAD, readable
        file.extend(&shape.names);
        file.extend([0; 24]); // the symbol every table begins with
        file.extend((shape.symbol_name as u32).to_le_bytes());
        file.extend([0x11, 0, 4, 0]); // a global object in section 4
        words(&mut file, &[shape.content_at, content.len() as u64]);
        file.extend(content);
        file.resize(shape.table_at as usize, 0);
        file.extend([0; 64]);
        let names = shape.names.len() as u64;
        section_header(&mut file, [1, 3, 0], [shape.names_at, names], [0, 0]); // SHT_STRTAB
        section_header(&mut file, [1, 3, 0], [shape.names_at, names], [0, 0]);
        section_header(&mut file, [1, 11, 1], [shape.symbols_at, 48], [2, 24]); // SHT_DYNSYM
        section_header(&mut file, [1, 1, 0], [shape.content_at, content.len() as u64], [0, 0]);
        let at = file.len() - 64;
        file[at..at + 4].copy_from_slice(&(shape.section_name as u32).to_le_bytes());
        file
    }

    struct Shape {
        names: Vec<u8>,
        section_name: usize,
        symbol_name: usize,
        names_at: u64,
        symbols_at: u64,
        content_at: u64,
        table_at: u64,
    }

    impl Shape {
        fn of(content: &[u8], name: &str) -> Self {
            let names = format!("\0.x\0{name}\0{MANIFEST_SYMBOL}\0").into_bytes();
            let (section_name, names_at) = (4, 64 + 56);
            let symbol_name = section_name + name.len() + 1;
            let symbols_at = names_at + names.len() as u64;
            let content_at = symbols_at + 48;
            let table_at = (content_at + content.len() as u64).next_multiple_of(8);
            Self { names, section_name, symbol_name, names_at, symbols_at, content_at, table_at }
        }

        fn header(&self) -> Vec<u8> {
            let machine = if cfg!(target_arch = "aarch64") { 183_u16 } else { 62 };
            let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
            halves(&mut file, &[3, machine, 1, 0]); // ET_DYN
            words(&mut file, &[0, 64, self.table_at]);
            halves(&mut file, &[0, 0, 64, 56, 1, 64, 5, 1]);
            file
        }
    }

    fn halves(file: &mut Vec<u8>, numbers: &[u16]) {
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn words(file: &mut Vec<u8>, numbers: &[u64]) {
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn section_header(
        file: &mut Vec<u8>,
        [name, kind, info]: [u32; 3],
        [at, size]: [u64; 2],
        [link, entry]: [u64; 2],
    ) {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        words(file, &[0, 0, at, size]);
        file.extend((link as u32).to_le_bytes());
        file.extend(info.to_le_bytes());
        words(file, &[1, entry]);
    }

    fn path() -> &'static Path {
        Path::new("/x/lib.so")
    }

    fn told(bytes: &[u8]) -> (String, String) {
        let error = from_data(bytes, path()).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    #[test]
    fn a_manifest_is_read_from_its_section() {
        let manifest = from_data(library(TEXT, (1, 7)).as_slice(), path()).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("runc", "0.1.0"));
    }

    #[test]
    fn a_manifest_is_found_by_its_symbol_when_the_section_lost_its_name() {
        let file = elf_file(&section(TEXT, (1, 0)), ".rodata");
        assert_eq!(from_data(file.as_slice(), path()).unwrap().name.as_str(), "runc");
    }

    #[test]
    fn a_manifest_is_read_from_a_file_without_reading_it_all() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &library(TEXT, (1, 0))).unwrap();
        assert_eq!(read(&file, path()).unwrap().name.as_str(), "runc");
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(
            read(&file, path()).unwrap_err().to_string(),
            "/x/lib.so is not a gx plugin: it is larger than 1 GiB"
        );
    }

    #[test]
    fn garbage_is_named_for_what_it_is() {
        let says = |bytes: &[u8]| told(bytes).0;
        assert_eq!(says(b""), "/x/lib.so is not a gx plugin: it is empty");
        assert_eq!(says(b"hello"), "/x/lib.so is not a gx plugin: it is not an ELF file");
        assert_eq!(says(b"#!/bin/sh"), "/x/lib.so is not a gx plugin: it is a script");
        assert_eq!(says(b"MZ\x90\0"), "/x/lib.so is not a gx plugin: it is built for Windows");
        assert_eq!(says(&[0xcf, 0xfa, 0xed, 0xfe]), "/x/lib.so is not a gx plugin: it is built for macOS");
        let mut program = library(TEXT, (1, 0));
        program[16] = 2; // ET_EXEC
        assert_eq!(
            says(&program),
            "/x/lib.so is not a gx plugin: it is an ELF file but not a shared library"
        );
        assert_eq!(
            says(&library(TEXT, (1, 0))[..40]),
            "/x/lib.so is not a gx plugin: its ELF header is cut off"
        );
    }

    #[test]
    fn a_library_that_is_no_plugin_is_told_apart() {
        let file = elf_file(b"nothing to see here", ".rodata");
        let file: Vec<u8> = String::from_utf8_lossy(&file).replace(MANIFEST_SYMBOL, "gx_other").into_bytes();
        assert!(from_data(file.as_slice(), path()).is_err());
        let own = File::open("/proc/self/exe").unwrap();
        let (said, _) = match read(&own, path()) {
            Err(error) => (error.to_string(), error.hint()),
            Ok(manifest) => panic!("{manifest:?}"),
        };
        assert_eq!(said, "/x/lib.so is not a gx plugin: it is a library without a plugin manifest");
    }

    #[test]
    fn another_machine_is_named() {
        let mut file = library(TEXT, (1, 0));
        file[18..20].copy_from_slice(&243_u16.to_le_bytes());
        let (said, hint) = told(&file);
        let arch = std::env::consts::ARCH;
        assert_eq!(said, format!("/x/lib.so is built for riscv64, this machine is {arch}"));
        assert_eq!(hint, format!("build it for {arch}"));
        file[4] = 1;
        file[18..20].copy_from_slice(&3_u16.to_le_bytes());
        assert_eq!(told(&file).0, format!("/x/lib.so is built for x86, this machine is {arch}"));
    }

    #[test]
    fn another_abi_is_refused_with_both_numbers_and_the_fix() {
        let (said, hint) = told(&library("not even TOML", (2, 3)));
        assert_eq!(
            said,
            "/x/lib.so cannot be loaded: it was built for plugin ABI 2.3, and this gx speaks 1.0"
        );
        assert_eq!(hint, "update gx, or install a version of the plugin that is built for ABI 1");
        let (_, hint) = told(&library(TEXT, (0, 9)));
        assert_eq!(hint, "install a newer version of the plugin, or rebuild it with a gx-core of ABI 1");
    }

    #[test]
    fn another_version_of_the_trait_is_refused_with_both() {
        let (said, hint) = told(&library(&TEXT.replace("runtime/1", "runtime/9"), (1, 0)));
        assert_eq!(said, "plugin `runc` offers runtime/9, this gx speaks runtime/1");
        assert_eq!(hint, "rebuild the plugin with a gx-core that has runtime/1");
    }

    #[test]
    fn a_damaged_manifest_is_told() {
        let (said, _) = told(&library("name = 3", (1, 0)));
        assert!(said.starts_with("/x/lib.so is not a gx plugin: the manifest cannot be read: "), "{said}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = from_data(bytes.as_slice(), path());
            let _ = from_data([b"\x7fELF\x02\x01\x01".as_slice(), &bytes].concat().as_slice(), path());
        }

        #[test]
        fn changed_bytes_are_read_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut file = library(TEXT, (1, 0));
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            let _ = from_data(file.as_slice(), path());
            file.truncate(cut.index(file.len()));
            let _ = from_data(file.as_slice(), path());
            let cache = ReadCache::new(std::io::Cursor::new(file));
            let _ = from_data(&cache, path());
        }
    }
}
