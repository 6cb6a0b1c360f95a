//! The files beside the modules that `modprobe` needs to find them: as text, which busybox reads and people do, and as
//! indexes, which kmod reads.

use std::collections::BTreeSet;

use super::index::Index;
use super::{BUILTIN, Modules};

/// Files that belong into the directory of modules, by name.
pub(crate) type Files = Vec<(&'static str, Vec<u8>)>;

impl Modules {
    /// The lists and indexes of these modules.
    pub(crate) fn tables(&self, chosen: &BTreeSet<String>) -> Files {
        let mut by_rank: Vec<&String> = chosen.iter().collect();
        by_rank.sort_by_key(|name| (self.rank(name), *name));
        let (mut deps, mut aliases, mut softdeps) = (String::new(), String::new(), String::new());
        let (mut dep_index, mut alias_index, mut builtin_index) =
            (Index::default(), Index::default(), Index::default());
        for name in &by_rank {
            let Some(module) = self.get(name) else { continue };
            let needed: Vec<_> = self
                .needs(name)
                .into_iter()
                .map(|path| format!(" {path}"))
                .collect();
            let line = format!("{}:{}", module.path, needed.concat());
            dep_index.insert(name, &line, module.rank);
            deps.push_str(&format!("{line}\n"));
            for alias in &module.aliases {
                aliases.push_str(&format!("alias {alias} {name}\n"));
                if let Some(key) = underscored(alias) {
                    alias_index.insert(&key, name, module.rank);
                }
            }
            for softdep in &module.softdeps {
                softdeps.push_str(&format!("softdep {name} {softdep}\n"));
            }
        }
        for name in &self.builtin {
            builtin_index.insert(name, "", 0);
        }
        let mut files: Files = self
            .texts
            .iter()
            .map(|(&name, text)| (name, text.clone()))
            .collect();
        files.retain(|(name, _)| *name != super::ORDER);
        if !self.texts.contains_key(BUILTIN) {
            files.push((BUILTIN, Vec::new()));
        }
        files.extend([
            ("modules.dep", deps.into_bytes()),
            ("modules.dep.bin", dep_index.encode()),
            ("modules.alias", aliases.into_bytes()),
            ("modules.alias.bin", alias_index.encode()),
            ("modules.softdep", softdeps.into_bytes()),
            ("modules.symbols", Vec::new()),
            ("modules.symbols.bin", Index::default().encode()),
            ("modules.builtin.bin", builtin_index.encode()),
        ]);
        files
    }

    fn rank(&self, name: &str) -> u32 {
        self.get(name).map_or(u32::MAX, |module| module.rank)
    }

    /// The paths of all modules that `name` needs, each before those that it needs itself: they are loaded from the last
    /// to the first.
    fn needs<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let mut order = Vec::new();
        let mut done = BTreeSet::from([name]);
        self.visit(name, &mut done, &mut order);
        order.pop();
        order.reverse();
        order
    }

    /// Depth first: what a module needs is in `order` before it. The graph has no circles, because symbols of a module
    /// that is not loaded cannot be used; if a file says otherwise, `done` ends it.
    fn visit<'a>(&'a self, name: &'a str, done: &mut BTreeSet<&'a str>, order: &mut Vec<&'a str>) {
        let Some(module) = self.all.get(name) else {
            return;
        };
        for needed in &module.depends {
            if done.insert(needed) {
                self.visit(needed, done, order);
            }
        }
        order.push(&module.path);
    }
}

/// An alias as kmod looks for it: `-` is `_`, but not in brackets. `None` when brackets do not match, as kmod refuses it.
fn underscored(alias: &str) -> Option<String> {
    let mut open = false;
    let mut out = String::with_capacity(alias.len());
    for c in alias.chars() {
        match c {
            '[' if !open => open = true,
            ']' if open => open = false,
            ']' => return None,
            _ => {}
        }
        out.push(if c == '-' && !open { '_' } else { c });
    }
    (!open).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Class, forge};
    use super::*;

    #[test]
    fn lists_are_those_of_depmod() {
        let directory = forge::directory(
            &[
                (
                    "kernel/a.ko",
                    &["depends=b,c", "alias=pci:v-[0-9]*", "softdep=pre: x"],
                ),
                ("kernel/b.ko", &["depends=d"]),
                ("kernel/c.ko", &["depends=b"]),
                ("kernel/d.ko.zst", &[]),
            ],
            "kernel/e.ko\n",
            "kernel/c.ko\nkernel/a.ko\n",
        );
        let packed = crate::archive::compress(&crate::elf::forge::module(&["depends="]), 1).unwrap();
        std::fs::write(directory.path().join("kernel/d.ko.zst"), packed).unwrap();
        let modules = Modules::read(directory.path()).unwrap();
        let chosen = modules.closure(&[Class::All], &[], directory.path()).unwrap();
        let files = modules.tables(&chosen);
        let text = |wanted| {
            let (_, bytes) = files.iter().find(|(name, _)| *name == wanted).unwrap();
            String::from_utf8(bytes.clone()).unwrap()
        };
        assert_eq!(
            text("modules.dep"),
            "kernel/c.ko: kernel/b.ko kernel/d.ko\n\
             kernel/a.ko: kernel/c.ko kernel/b.ko kernel/d.ko\n\
             kernel/b.ko: kernel/d.ko\n\
             kernel/d.ko:\n"
        );
        assert_eq!(text("modules.alias"), "alias pci:v-[0-9]* a\n");
        assert_eq!(text("modules.softdep"), "softdep a pre: x\n");
        assert_eq!(text("modules.builtin"), "kernel/e.ko\n");
    }

    #[test]
    fn circles_end() {
        let directory = forge::directory(
            &[("kernel/a.ko", &["depends=b"]), ("kernel/b.ko", &["depends=a"])],
            "",
            "",
        );
        let modules = Modules::read(directory.path()).unwrap();
        assert_eq!(modules.needs("a"), ["kernel/b.ko"]);
    }

    #[test]
    fn aliases_are_looked_for_with_underscores() {
        assert_eq!(underscored("a-b[0-9]-c").as_deref(), Some("a_b[0-9]_c"));
        assert_eq!(underscored("a]"), None);
        assert_eq!(underscored("a["), None);
    }
}
