//! The import table of ARCHITECTURE.md, executed over the paths in `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room -> what it may import: rooms, or `room::module`.
type Table = BTreeMap<String, BTreeSet<String>>;

/// Files that stand above the rooms.
const COMPOSITION: [&str; 3] = ["lib", "init", "test_util"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table that begins with `| room | may import |`.
fn table() -> Table {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| *line != "| room | may import |").skip(2);
    let mut table = Table::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let allowed = cells[1].split(',').map(|it| it.trim().trim_matches('`').to_owned());
        let allowed: BTreeSet<_> = allowed.filter(|it| it != "nothing").collect();
        for room in cells[0].split(',') {
            table.insert(room.trim().trim_matches('`').to_owned(), allowed.clone());
        }
    }
    table
}

/// `crate::a::b` paths in a source text, comments and tests left out; groups in braces are
/// spread.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let boundary = code[..at].chars().next_back();
        if boundary.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        spread("", &code[at + "crate::".len()..], &mut found);
    }
    found
}

/// Adds the path that `text` begins with, below `prefix`; a group in braces gives several.
fn spread(prefix: &str, text: &str, found: &mut BTreeSet<String>) {
    let text = text.trim_start();
    if text.is_empty() || text.starts_with('}') {
        // Behind the last comma of a list.
        return;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let (head, rest) = text.split_at(end.unwrap_or(text.len()));
    let path = format!("{prefix}{head}");
    let Some(group) = rest.strip_prefix('{') else {
        let segments: Vec<_> = path.split("::").filter(|it| !it.is_empty()).take(2).collect();
        if !segments.is_empty() {
            found.insert(segments.join("::"));
        }
        return;
    };
    let (mut depth, mut start) = (1, 0);
    for (at, c) in group.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 || depth == 1 && c == ',' {
            spread(&path, &group[start..at], found);
            start = at + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// What in `source`, a file of `room`, the table forbids.
fn forbidden(table: &Table, room: &str, source: &str) -> Vec<String> {
    let allowed = &table[room];
    let is_allowed = |import: &String| {
        let target = import.split("::").next().unwrap_or_default();
        target == room
            || target == "error"
            || target == "warn"
            || allowed.contains(target)
            || allowed.iter().any(|it| {
                it.starts_with(&format!("{target}::")) && {
                    // `pipeline::queue` is spoken to through what the room re-exports of it.
                    let (_, module) = it.split_once("::").unwrap();
                    import == it || re_exported(target, module).contains(import)
                }
            })
    };
    imports(source).into_iter().filter(|import| !is_allowed(import)).collect()
}

/// `room::Name` for every name that the room re-exports from `module`.
fn re_exported(room: &str, module: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(root().join(format!("src/{room}/mod.rs"))).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (at, _) in source.match_indices(&format!("use {module}::")) {
        let rest = &source[at + "use ".len() + module.len() + 2..];
        let list = rest.split(';').next().unwrap_or_default();
        let list = list.trim_matches(|c| c == '{' || c == '}');
        names.extend(list.split(',').map(|name| format!("{room}::{}", name.trim())));
    }
    names
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            out.push(path);
        }
    }
    out
}

/// The room that a file of `src/` belongs to.
fn room_of(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for file in files(&root().join("src")) {
        let room = room_of(&file);
        if COMPOSITION.contains(&room.as_str()) {
            continue;
        }
        assert!(table.contains_key(&room), "room {room} is not in ARCHITECTURE.md's table");
        let source = fs::read_to_string(&file).unwrap();
        for import in forbidden(&table, &room, &source) {
            wrong.push(format!("{}: {room} may not import {import}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_planted_import_is_found_however_it_is_written() {
    let table = table();
    for source in [
        "use crate::pipeline::Queue;",
        "use crate::{model::Activity, pipeline::{Queue, Seed}};",
        "fn f() { crate::sink::StdoutSink::new(); }",
        "pub(crate) use crate::capture;",
    ] {
        assert!(!forbidden(&table, "schema", source).is_empty(), "{source}");
    }
    let fine = "//! crate::pipeline\nuse crate::model::Activity;\n#[cfg(test)]\nmod tests { use crate::sink::X; }";
    assert!(forbidden(&table, "schema", fine).is_empty());
    assert!(forbidden(&table, "capture", "use crate::pipeline::Queue;").is_empty());
    assert_eq!(forbidden(&table, "capture", "use crate::pipeline::Worker;"), ["pipeline::Worker"]);
}

#[test]
fn every_room_of_the_table_exists_and_opens_with_an_essay() {
    for room in table().keys() {
        let folder = root().join("src").join(room).join("mod.rs");
        let file = root().join("src").join(format!("{room}.rs"));
        let source = fs::read_to_string(folder).or_else(|_| fs::read_to_string(file)).unwrap();
        let essay = source.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(essay >= 3, "{room} opens with {essay} lines");
    }
}
