//! Where the kernel and its modules are: in a system's tree, or in a package.

use std::fs;
use std::path::{Path, PathBuf};

use crate::deb;
use crate::error::PackageError;
use crate::root::Root;

/// Where modules are below a root, in the order that they are looked for.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];

/// Where a kernel is, `{}` being its version: on Debian and its relatives, and where Fedora and Arch keep it.
const IMAGES: [&str; 4] = [
    "/boot/vmlinuz-{}",
    "/boot/vmlinux-{}",
    "/usr/lib/modules/{}/vmlinuz",
    "/lib/modules/{}/vmlinuz",
];

/// A kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says.
    pub version: String,
    /// The file that a boot loader loads.
    pub image: PathBuf,
    /// The directory that `modprobe` calls `/lib/modules/VERSION`.
    pub modules: PathBuf,
    /// Its configuration, if that is there.
    pub config: Option<PathBuf>,
}

impl Kernel {
    /// The kernel of `version` in a system's tree; without a version, the only one that there is.
    ///
    /// # Errors
    /// [`PackageError::Kernel`] when there is none, or it is not clear which; it names those that there are.
    pub fn find(root: &Root, version: Option<&str>) -> Result<Self, PackageError> {
        let mut found: Vec<Self> = Vec::new();
        for directory in MODULES.iter().filter_map(|path| root.resolve(Path::new(path))) {
            let directory = root.outside(&directory);
            let entries = fs::read_dir(&directory).map_err(PackageError::read(&directory))?;
            for entry in entries {
                let entry = entry.map_err(PackageError::read(&directory))?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if let Some(kernel) = Self::at(root, &name, entry.path())
                    && !found.contains(&kernel)
                {
                    found.push(kernel);
                }
            }
        }
        found.sort_by(|a, b| a.version.cmp(&b.version));
        let versions = || {
            let all: Vec<_> = found.iter().map(|kernel| kernel.version.as_str()).collect();
            all.join(", ")
        };
        let wrong = |what: String| PackageError::Kernel {
            place: root.directory().to_owned(),
            what,
        };
        match version {
            Some(version) => {
                let listed = versions();
                let wanted = found.into_iter().find(|kernel| kernel.version == version);
                wanted.ok_or_else(|| match listed.as_str() {
                    "" => wrong("there is no kernel with its modules".to_owned()),
                    others => wrong(format!("there is no kernel {version}; there are {others}")),
                })
            }
            None if found.len() > 1 => Err(wrong(format!(
                "there are several kernels, say which: {}",
                versions()
            ))),
            None => found
                .pop()
                .ok_or_else(|| wrong("there is no kernel with its modules".to_owned())),
        }
    }

    fn at(root: &Root, version: &str, modules: PathBuf) -> Option<Self> {
        modules.join("kernel").is_dir().then_some(())?;
        let file = |template: &str| {
            let path = root.resolve(Path::new(&template.replace("{}", version)))?;
            Some(root.outside(&path)).filter(|path| path.is_file())
        };
        Some(Self {
            version: version.to_owned(),
            image: IMAGES.iter().find_map(|template| file(template))?,
            modules,
            config: file("/boot/config-{}"),
        })
    }
}

/// Unpacks the kernel package `deb` into the empty directory `directory`, which then is a tree for [`Kernel::find`].
///
/// # Errors
/// When the package cannot be read or is none, or the directory cannot be written.
pub fn unpack_deb(package: &Path, directory: &Path) -> Result<(), PackageError> {
    deb::unpack(package, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(versions: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("boot")).unwrap();
        for version in versions {
            let modules = directory.path().join("usr/lib/modules").join(version);
            fs::create_dir_all(modules.join("kernel")).unwrap();
            fs::write(directory.path().join(format!("boot/vmlinuz-{version}")), "kernel").unwrap();
        }
        directory
    }

    #[test]
    fn the_only_kernel_or_the_one_that_is_named_is_taken() {
        let directory = tree(&["6.1.0-1-amd64"]);
        let root = Root::new(directory.path());
        std::os::unix::fs::symlink("usr/lib", directory.path().join("lib")).unwrap();
        fs::create_dir_all(directory.path().join("usr/lib/modules/5.0-headers-only")).unwrap();
        let kernel = Kernel::find(&root, None).unwrap();
        assert_eq!(kernel.version, "6.1.0-1-amd64");
        assert_eq!(kernel.image, directory.path().join("boot/vmlinuz-6.1.0-1-amd64"));
        let both = tree(&["6.1", "6.2"]);
        let root = Root::new(both.path());
        assert_eq!(Kernel::find(&root, Some("6.1")).unwrap().version, "6.1");
        let error = |root, version| {
            let text = Kernel::find(root, version).unwrap_err().to_string();
            text.rsplit_once(": ").map(|(_, what)| what.to_owned()).unwrap()
        };
        assert_eq!(error(&root, None), "6.1, 6.2");
        assert_eq!(
            error(&root, Some("7")),
            "there is no kernel 7; there are 6.1, 6.2"
        );
        let none = tree(&[]);
        assert_eq!(
            error(&Root::new(none.path()), None),
            "there is no kernel with its modules"
        );
    }
}
