//! A directory that is looked at as if it were `/`: programs and libraries may come from another system's tree, whose links
//! must not lead out of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that are followed for one path, as the kernel does.
const LINKS: usize = 40;

/// A system's root directory, which may be `/`.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The root directory `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Where the directory is.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The file or directory that `path` leads to within this root, links followed, as seen from inside; `None` when there
    /// is none.
    pub fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut left: VecDeque<OsString> = parts(path);
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(&part);
            let here = self.outside(&at);
            let kind = fs::symlink_metadata(&here).ok()?.file_type();
            if kind.is_symlink() {
                links += 1;
                if links > LINKS {
                    return None;
                }
                let target = fs::read_link(&here).ok()?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                } else {
                    at.pop();
                }
                let mut followed = parts(&target);
                followed.append(&mut left);
                left = followed;
            }
        }
        Some(at)
    }

    /// The path outside of what [`Root::resolve`] found, for opening it.
    pub fn outside(&self, inside: &Path) -> PathBuf {
        self.0.join(inside.strip_prefix("/").unwrap_or(inside))
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_root_and_never_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("secret");
        fs::write(&outside, "x").unwrap();
        let top = directory.path().join("root");
        fs::create_dir_all(top.join("usr/bin")).unwrap();
        fs::write(top.join("usr/bin/real"), "x").unwrap();
        symlink("usr/bin", top.join("bin")).unwrap();
        symlink("/bin/real", top.join("usr/bin/absolute")).unwrap();
        symlink("../../../../secret", top.join("usr/bin/out")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let root = Root::new(&top);
        let real = PathBuf::from("/usr/bin/real");
        assert_eq!(root.resolve(Path::new("/bin/absolute")).as_ref(), Some(&real));
        assert_eq!(
            root.resolve(Path::new("/../bin/../bin/real")).as_ref(),
            Some(&real)
        );
        for gone in ["/bin/out", "/loop", "/bin/none"] {
            assert_eq!(root.resolve(Path::new(gone)), None, "{gone}");
        }
        assert_eq!(root.outside(&real), top.join("usr/bin/real"));
    }
}
