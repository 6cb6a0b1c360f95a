//! What an ELF file says of itself: what it is for, what it needs, and what a kernel module tells.

use goblin::elf::{Elf, header};

/// What a program or library needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The processor, as `uname -m` calls it.
    pub(crate) machine: String,
    /// The program that starts it (`PT_INTERP`); a static program has none.
    pub(crate) interpreter: Option<String>,
    /// Names of libraries (`DT_NEEDED`).
    pub(crate) libraries: Vec<String>,
    /// Directories that are searched first (`DT_RUNPATH`, or the older `DT_RPATH`).
    pub(crate) runpath: Vec<String>,
}

/// What a program or library needs; an error when it is no ELF file, in words.
pub(crate) fn needs(bytes: &[u8]) -> Result<Needs, String> {
    let elf = parse(bytes)?;
    let paths = if elf.runpaths.is_empty() {
        &elf.rpaths
    } else {
        &elf.runpaths
    };
    let runpath = paths.iter().flat_map(|list| list.split(':'));
    Ok(Needs {
        machine: machine(&elf),
        interpreter: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        runpath: runpath
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// The processor that a kernel module is for, and what its section `.modinfo` holds: `key=value`, in its order.
pub(crate) fn modinfo(bytes: &[u8]) -> Result<(String, Vec<(String, String)>), String> {
    let elf = parse(bytes)?;
    let section = elf
        .section_headers
        .iter()
        .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))
        .and_then(|section| bytes.get(section.file_range()?))
        .ok_or("it is no kernel module: it has no section .modinfo")?;
    let pairs = section.split(|&byte| byte == 0).filter_map(|line| {
        let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    Ok((machine(&elf), pairs.collect()))
}

/// A program without what is not loaded when it runs: names of functions and lines of its source, which are most of a
/// program that was built with them. `None` when there is nothing to leave out, or the file is not of the usual shape.
pub(crate) fn stripped(bytes: &[u8]) -> Option<Vec<u8>> {
    let elf = parse(bytes).ok()?;
    if !elf.is_64 || !elf.little_endian {
        return None;
    }
    let ends = elf
        .program_headers
        .iter()
        .map(|header| header.p_offset.checked_add(header.p_filesz));
    let table = u64::from(elf.header.e_phnum)
        .checked_mul(u64::from(elf.header.e_phentsize))?
        .checked_add(elf.header.e_phoff)?;
    let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?.max(table);
    let mut kept = bytes.get(..usize::try_from(end).ok()?)?.to_vec();
    if kept.len() == bytes.len() {
        return None;
    }
    // The table of sections is gone: its place (e_shoff), its length and the number of its names (e_shnum, e_shstrndx).
    kept.get_mut(0x28..0x30)?.fill(0);
    kept.get_mut(0x3c..0x40)?.fill(0);
    Some(kept)
}

fn parse(bytes: &[u8]) -> Result<Elf<'_>, String> {
    Elf::parse(bytes).map_err(|error| format!("it is no ELF file: {error}"))
}

fn machine(elf: &Elf<'_>) -> String {
    match elf.header.e_machine {
        header::EM_X86_64 => "x86_64".to_owned(),
        header::EM_AARCH64 => "aarch64".to_owned(),
        header::EM_386 => "i386".to_owned(),
        other => header::machine_to_str(other).to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod forge {
    /// A kernel module that has nothing but the section `.modinfo` with these lines.
    pub(crate) fn module(lines: &[&str]) -> Vec<u8> {
        let info: Vec<u8> = lines.iter().flat_map(|line| line.bytes().chain([0])).collect();
        let names = b"\0.modinfo\0.shstrtab\0";
        let (info_at, names_at) = (64, 64 + info.len());
        let headers_at = (names_at + names.len()).next_multiple_of(8);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        for half in [1_u16, 62] {
            elf.extend(half.to_le_bytes());
        }
        elf.extend(1_u32.to_le_bytes());
        for long in [0, 0, headers_at as u64] {
            elf.extend(long.to_le_bytes());
        }
        elf.extend(0_u32.to_le_bytes());
        for half in [64_u16, 0, 0, 64, 3, 2] {
            elf.extend(half.to_le_bytes());
        }
        elf.extend(&info);
        elf.extend(names);
        elf.resize(headers_at, 0);
        let sections = [
            (0_u32, 0_u32, 0, 0),
            (1, 1, info_at, info.len()),
            (10, 3, names_at, names.len()),
        ];
        for (name, kind, at, len) in sections {
            elf.extend(name.to_le_bytes());
            elf.extend(kind.to_le_bytes());
            for long in [0, 0, at as u64, len as u64, 0, 1, 0] {
                elf.extend(long.to_le_bytes());
            }
        }
        elf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_tell_what_they_are() {
        let (machine, info) = modinfo(&forge::module(&["depends=a,b", "no pair", "alias=pci:v*"])).unwrap();
        assert_eq!(machine, "x86_64");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(info, [pair("depends", "a,b"), pair("alias", "pci:v*")]);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the program itself is the judge of whether it still runs"
    )]
    fn a_stripped_program_still_runs_and_needs_the_same() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let small = stripped(&whole).unwrap();
        assert!(
            small.len() < whole.len() / 2,
            "{} of {}",
            small.len(),
            whole.len()
        );
        assert_eq!(stripped(&small), None);
        assert_eq!(needs(&small), needs(&whole));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, &small).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let said = std::process::Command::new(&path).arg("--help").output().unwrap();
        assert!(said.status.success() && !said.stdout.is_empty());
    }

    #[test]
    fn what_is_no_elf_file_is_an_error_and_no_panic() {
        let module = forge::module(&["depends="]);
        for bytes in [
            &b""[..],
            b"\x7fELF",
            b"#!/bin/sh\n",
            &module[..100],
            &module[..module.len() - 70],
        ] {
            assert!(modinfo(bytes).is_err());
        }
        for at in 0..module.len() {
            let mut spoilt = module.clone();
            spoilt[at] = 0xff;
            // Whatever comes of it, it is an answer.
            drop((modinfo(&spoilt), needs(&spoilt), stripped(&spoilt)));
        }
    }
}
