//! The web pages in Chromium. The tests are those of `tests/it/browser`, which cargo runs. Here is
//! what they need: the browser and its driver, and axe-core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args as ClapArgs;
use sha2::{Digest as _, Sha512};

use crate::peers::{install_packages, missing, with};
use crate::programs::{finish, program};
use crate::test::{Done, Steps, install_from_registry, run_command};
use crate::workspace::{cargo, root, target};

/// The browser, and the driver that takes WebDriver's commands.
const PROGRAMS: &[&str] = &["chromium", "chromedriver"];
/// Debian's packages. Without fonts the browser measures no text.
const PACKAGES: &[&str] = &["chromium", "chromium-driver", "fonts-dejavu-core"];

/// The rules of accessibility, as a package of npm: its name, the file that npm makes, and the hash
/// of that file (SHA-512, base64). The version decides what is found.
const AXE: &str = "axe-core@4.14.1";
const AXE_FILE: &str = "axe-core-4.14.1.tgz";
const AXE_HASH: &str =
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==";

/// The tests that every run has, below `browser` in `tests/it`.
const PLAIN: &[&str] = &["itself", "logins", "hold_rules"];
/// The test that makes the pictures of the documentation.
const PICTURES: &str = "docs::the_docs_have_pictures";

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Where the pictures go, from the root of the workspace
    #[arg(long, value_name = "FOLDER", default_value = "docs/pictures")]
    folder: PathBuf,
}

/// Runs the tests of every run. With `require` a missing browser is a failure.
pub(crate) fn plain(steps: &mut Steps, require: bool) {
    install(steps);
    steps.step("a visitor in Chromium", || {
        with(missing(PROGRAMS), require, || {
            tests(PLAIN, None, &pictures()?)
        })
    });
}

/// Runs all tests, those with axe-core too.
pub(crate) fn all(steps: &mut Steps, require: bool) {
    install(steps);
    let mut axe = None;
    steps.step("fetch axe-core", || {
        if let Some(why) = missing(&["npm", "tar"]) {
            return Ok(Done::Skipped(why));
        }
        match fetch_axe()? {
            Ok(file) => axe = Some(file),
            Err(skipped) => return Ok(skipped),
        }
        Ok(Done::Passed)
    });
    steps.step("all tests in Chromium, with axe-core", || {
        let absent = axe.is_none().then(|| "axe-core is missing".to_owned());
        with(missing(PROGRAMS).or(absent), require, || {
            tests(&[""], axe.as_deref(), &pictures()?)
        })
    });
}

/// Makes the pictures of the documentation.
pub(crate) fn take_pictures(args: &Args) -> Result<()> {
    if let Done::Skipped(why) = install_packages(PROGRAMS, PACKAGES)? {
        bail!("{why}");
    }
    let folder = root().join(&args.folder);
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    tests(&[PICTURES], None, &folder)?;
    println!("the pictures are in {}", folder.display());
    Ok(())
}

fn install(steps: &mut Steps) {
    steps.step("install Chromium and its driver", || {
        install_packages(PROGRAMS, PACKAGES)
    });
}

/// Runs the tests whose paths below `browser` begin so.
fn tests(names: &[&str], axe: Option<&Path>, pictures: &Path) -> Result<()> {
    same_version()?;
    let mut test = cargo();
    test.env("POSTRIDER_PICTURES", pictures);
    if let Some(axe) = axe {
        test.env("POSTRIDER_AXE", axe);
    }
    // With a single package, crates would have fewer features, and be built once more.
    test.args(["test", "--locked", "--workspace", "--test=it"]);
    // A browser keeps a core busy.
    test.args(["--", "--ignored", "--test-threads=2"]);
    test.args(names.iter().map(|name| format!("browser::{name}")));
    run_command(&mut test)?;
    Ok(())
}

/// A driver drives the browser of its own version only.
fn same_version() -> Result<()> {
    let version = |name: &str| -> Result<String> {
        let output = finish(program(name).arg("--version"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split(' ').nth(1).map(|word| word.trim().to_owned());
        version.with_context(|| format!("{name} tells no version: {text}"))
    };
    let (browser, driver) = (version("chromium")?, version("chromedriver")?);
    ensure!(
        browser == driver,
        "chromium is {browser} and chromedriver is {driver}; \
         apt-get install chromium chromium-driver makes them one version"
    );
    Ok(())
}

/// The folder of what the browser's tests need and leave.
fn folder() -> Result<PathBuf> {
    let folder = target()?.join("browser");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {folder:?}"))?;
    Ok(folder)
}

fn pictures() -> Result<PathBuf> {
    Ok(folder()?.join("pictures"))
}

/// Gets axe-core from its registry, unless an earlier run did. Gives its script, or why the step is
/// skipped.
fn fetch_axe() -> Result<Result<PathBuf, Done>> {
    let folder = folder()?;
    let file = folder.join(AXE_FILE);
    if !file.exists() {
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", AXE]);
        if let Some(skipped) = install_from_registry(&mut npm, &folder) {
            return Ok(Err(skipped));
        }
    }
    if let Err(error) = check_hash(&file, AXE_HASH) {
        // The next run gets it again.
        fs::remove_file(&file)?;
        return Err(error);
    }
    let mut tar = program("tar");
    tar.arg("-xzf").arg(&file).arg("-C").arg(&folder);
    finish(tar.arg("package/axe.min.js"))?;
    Ok(Ok(folder.join("package/axe.min.js")))
}

/// Fails if a file is another one than the one with this hash (SHA-512, base64).
fn check_hash(file: &Path, hash: &str) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("failed to read {file:?}"))?;
    let found = STANDARD.encode(Sha512::digest(&bytes));
    ensure!(found == hash, "{file:?} has the hash {found}, not {hash}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "abc").unwrap();
        // FIPS 180-4: SHA-512 of "abc".
        let hash = "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        check_hash(&file, hash).unwrap();
        assert!(check_hash(&file, AXE_HASH).is_err());
    }

    #[test]
    fn the_tests_that_are_run_by_name_exist() {
        for name in PLAIN.iter().chain([&PICTURES]) {
            let (module, test) = name.split_once("::").unwrap_or((name, "async fn "));
            let file = root().join(format!("tests/it/browser/{module}.rs"));
            assert!(fs::read_to_string(file).unwrap().contains(test), "{name}");
        }
    }
}
