//! Configurations of other servers in `testdata/import/SERVER/NAME/in`, with what becomes of them
//! in the folder `out` beside it. `out/errors` has the problems of the result, if it has any.
//!
//! `POSTRIDER_BLESS=1 cargo test -p postrider-config --test it import` writes the results of today.
//! Read the diff before you commit it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use postrider_config::{
    Errors, Loaded, Static,
    import::{Disk, Fate, Files, Import, Note, mox, postfix, stalwart},
};
use proptest::prelude::*;

use crate::support;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("testdata/import")
}

fn shown(notes: &[Note]) -> String {
    let mut text = String::new();
    for fate in Fate::ALL {
        let of_fate: Vec<&Note> = notes.iter().filter(|note| note.fate == fate).collect();
        text += &format!("{fate}\n");
        for note in of_fate {
            text += &format!("  {note}\n");
        }
    }
    text
}

/// Compares the files of a folder, or writes them.
fn compare(folder: &Path, found: &BTreeMap<String, String>) {
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        for (name, text) in found {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut expected = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        expected.insert(name, fs::read_to_string(path).unwrap());
    }
    for (name, text) in found {
        let other = expected.get(name).map_or("", String::as_str);
        assert!(text == other, "{}/{name} is\n{text}", folder.display());
    }
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{}",
        folder.display()
    );
}

/// Checks one import: its files, its notes, and what our parser says of the written files.
fn check(folder: &Path, import: &Import) {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("config");
    import.write(&target, None).unwrap();
    let errors = match Loaded::read(&target.join("postrider.conf")).both() {
        Ok(_) => String::new(),
        Err(errors) => format!("{errors}\n"),
    };
    let here = folder.join("in").display().to_string();
    let clean = |text: &str| {
        text.replace(&here, "IN")
            .replace(&target.display().to_string(), "OUT")
    };
    let mut found = BTreeMap::from([
        ("postrider.conf".to_owned(), clean(&import.statics)),
        ("domains.conf".to_owned(), clean(&import.dynamic)),
        ("notes".to_owned(), clean(&shown(&import.notes))),
    ]);
    if !errors.is_empty() {
        found.insert("errors".to_owned(), clean(&errors));
    }
    for text in found.values() {
        assert!(!text.contains("not-to-be-taken"), "a password: {text}");
    }
    compare(&folder.join("out"), &found);
}

fn cases(server: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(server)).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn files_of_mox() {
    for folder in cases("mox") {
        let import = mox(&Disk, &folder.join("in")).unwrap_or_else(|error| panic!("{error}"));
        check(&folder, &import);
    }
}

#[test]
fn files_of_postfix() {
    for folder in cases("postfix") {
        let import = postfix(&Disk, &folder.join("in"), Some("host.example.org"))
            .unwrap_or_else(|error| panic!("{error}"));
        check(&folder, &import);
    }
}

#[test]
fn hooks_of_stalwart() {
    for folder in cases("stalwart") {
        let path = folder.join("config.toml");
        let fragment = stalwart(&Disk, &path).unwrap_or_else(|error| panic!("{error}"));
        let text = format!("{}\n{}", support::STATIC, fragment.text);
        let read = Static::parse(&text, "postrider.conf").unwrap_or_else(|error| panic!("{error}"));
        assert!(!read.hooks.is_empty());
        let clean = |text: &str| text.replace(&folder.display().to_string(), "IN");
        let mut found = BTreeMap::from([
            ("fragment".to_owned(), clean(&fragment.text)),
            ("notes".to_owned(), clean(&shown(&fragment.notes))),
        ]);
        for text in found.values() {
            assert!(!text.contains("hook-secret"), "a secret: {text}");
        }
        for file in &fragment.files {
            let name = file.path.display().to_string().replace('/', ":");
            found.insert(name, String::from_utf8(file.content.clone()).unwrap());
        }
        compare(&folder.join("out"), &found);
    }
}

/// Files in memory.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), content.into());
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn from_mox(files: &Memory) -> Result<Import, Errors> {
    mox(files, Path::new("d"))
}

fn from_postfix(files: &Memory) -> Result<Import, Errors> {
    postfix(files, Path::new("d"), Some("host.example.org"))
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let check = |found: Result<Import, Errors>, expected: &str| {
        assert_eq!(found.unwrap_err().to_string(), expected);
    };
    let missing = "cannot be read: entity not found; name the folder that has it";
    check(
        from_mox(&Memory::default().with("d/domains.conf", "Domains:\n\tx\n")),
        &format!(
            "d/mox.conf: {missing}\nd/domains.conf:2:1: \"x\" has no colon; write \"Key: value\""
        ),
    );
    check(
        from_mox(
            &Memory::default()
                .with("d/mox.conf", b"A: 1\nB: \xff\n".to_vec())
                .with("d/domains.conf", b"\xff\xfe".to_vec()),
        ),
        "d/mox.conf:2:1: is not UTF-8; save the file as UTF-8\n\
         d/domains.conf:1:1: is not UTF-8; save the file as UTF-8",
    );
    check(
        from_postfix(&Memory::default()),
        &format!("d/main.cf: {missing}"),
    );
    check(
        from_postfix(&Memory::default().with("d/main.cf", "a = $a\nb\nc = ${d\n")),
        "d/main.cf:1:1: $a refers to itself\n\
         d/main.cf:2:1: \"b\" is not of the form \"name = value\"\n\
         d/main.cf:3:1: has a reference without its end: ${d",
    );
    check(
        from_postfix(
            &Memory::default()
                .with("d/main.cf", "")
                .with("d/master.cf", "smtp inet\n"),
        ),
        "d/master.cf:1:1: has less than eight fields",
    );
    check(
        from_postfix(&Memory::default().with("d/main.cf", "myhostname = a b\n")),
        "d/main.cf:1:1: myhostname is \"a b\", which is not a domain name",
    );
    let unnamed = postfix(
        &Memory::default().with("d/main.cf", ""),
        Path::new("d"),
        None,
    );
    check(
        unnamed,
        "d/main.cf: myhostname is not set, and this machine has no name; set it",
    );
    for (text, expected) in [
        ("a = [", "f:1:1: not valid TOML: "),
        (
            "\n[session]\n",
            "f: has no table session.hook or session.milter",
        ),
    ] {
        let error = stalwart(&Memory::default().with("f", text), Path::new("f")).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// Large tables are read as a whole, and aliases that lead through very many others are cut.
#[test]
fn large_files() {
    const LINES: usize = 5_000;
    let mut boxes = String::new();
    let mut aliases = String::new();
    let mut transports = String::new();
    let mut all = String::new();
    for n in 0..LINES {
        let _ = writeln!(boxes, "user{n}@example.org x");
        let _ = writeln!(aliases, "chain{n}@example.org chain{}@example.org", n + 1);
        let _ = writeln!(transports, "d{n}.example error:text {n}");
        let _ = write!(all, " user{n}@example.org,");
    }
    let _ = writeln!(aliases, "all@example.org{all}");
    let files = Memory::default()
        .with(
            "d/main.cf",
            "virtual_mailbox_domains = example.org\nvirtual_mailbox_maps = hash:boxes\n\
             virtual_alias_maps = hash:aliases\ntransport_maps = hash:transports\nrecipient_delimiter = +-=\n",
        )
        .with("d/boxes", boxes)
        .with("d/aliases", aliases)
        .with("d/transports", transports);
    let import = from_postfix(&files).unwrap();
    assert!(import.dynamic.contains("[accounts.user4999]"));
    let cut = import
        .notes
        .iter()
        .any(|note| note.text.starts_with("leads through too many addresses"));
    assert!(cut);
    let last = &import.notes.iter().filter(|note| note.line == LINES + 1);
    assert!(last.clone().any(|note| note.key == "all@example.org"));

    let mut domains = "Domains:\n".to_owned();
    for n in 0..LINES {
        let _ = write!(domains, "\td{n}.example:\n\t\tDescription: {n}\n");
    }
    let files = Memory::default()
        .with("d/mox.conf", "Hostname: h.example\n")
        .with("d/domains.conf", domains);
    let import = from_mox(&files).unwrap();
    assert!(import.dynamic.contains("[domains.\"d4999.example\"]"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        one in prop::collection::vec(any::<u8>(), 0..200),
        other in "[A-Za-z:${}?=\\[\\]@|/\\\\\" \t\n,.#-]{0,200}",
    ) {
        let files = Memory::default()
            .with("d/mox.conf", one.clone())
            .with("d/domains.conf", other.clone())
            .with("d/main.cf", other.clone())
            .with("d/master.cf", one.clone())
            .with("f", other.clone());
        let _ = from_mox(&files);
        let _ = from_postfix(&files);
        let _ = stalwart(&files, Path::new("f"));
        // The tables of a valid main.cf.
        let files = Memory::default()
            .with("d/main.cf", "mydestination = example.org, hash:t\nvirtual_alias_maps = hash:t, hash:u\nalias_maps = hash:t\n\
                virtual_mailbox_maps = hash:u\ntransport_maps = hash:t\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:t\n\
                sender_dependent_relayhost_maps = hash:t\nrecipient_delimiter = +\n")
            .with("d/t", other)
            .with("d/u", one);
        let import = from_postfix(&files).unwrap();
        prop_assert!(import.statics.parse::<toml_edit::DocumentMut>().is_ok());
        prop_assert!(import.dynamic.parse::<toml_edit::DocumentMut>().is_ok());
    }
}
