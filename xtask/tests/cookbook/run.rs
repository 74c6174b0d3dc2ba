//! One run of the demo for all tests of this process, and the questions of the document.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use embedded_clickhouse::{Server, connect_or_start, env, http};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::Answer;
use crate::ledger::{self, Entry};
use crate::rows::{self, Row};

/// What the demo left behind.
pub(crate) struct Run {
    server: Server,
    database: String,
    questions: Vec<Question>,
    /// What its customers did.
    pub(crate) ledger: Vec<Entry>,
    /// Every row, by `when`.
    pub(crate) rows: Vec<Row>,
}

/// A query of the document under its heading.
pub(crate) struct Question {
    pub(crate) heading: String,
    sql: String,
}

/// The run, made when it is first asked for. Its engine ends with this process.
pub(crate) fn get() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(Run::make)
}

/// The questions of `docs/sql.md`: a heading of the third level, and the one query below it.
pub(crate) fn questions() -> Vec<Question> {
    let document = document("docs/sql.md");
    let sections = document.split("\n### ").skip(1);
    sections
        .map(|section| {
            let (heading, text) = section.split_once('\n').unwrap();
            let blocks: Vec<&str> = text.split("```sql\n").skip(1).collect();
            assert_eq!(blocks.len(), 1, "{heading}: one query, not {}", blocks.len());
            let (sql, after) = blocks[0].split_once("```").unwrap();
            assert!(after.trim().starts_with("A row for each"), "{heading}: what does it give?");
            Question { heading: heading.to_owned(), sql: sql.to_owned() }
        })
        .collect()
}

/// A page of the repository.
pub(crate) fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(name)).unwrap()
}

impl Run {
    fn make() -> Self {
        let server = connect_or_start().unwrap();
        let (figures, book) = (file("json"), file("ledger"));
        let address = server.url.strip_prefix("http://").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["demo", "--requests", "2400", "--seconds", "12", "--seed", "7"])
            .arg("--json")
            .arg(&figures)
            .arg("--ledger")
            .arg(&book)
            .env(env::TEST_URL, format!("http://{}:{}@{address}", server.user, server.password))
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{words}", String::from_utf8_lossy(&output.stdout));
        let text = std::fs::read_to_string(&figures).unwrap();
        let figures_told: Value = serde_json::from_str(&text).unwrap();
        let ledger = ledger::read(&std::fs::read_to_string(&book).unwrap());
        std::fs::remove_file(figures).unwrap();
        std::fs::remove_file(book).unwrap();
        let mut run = Self {
            server,
            database: figures_told["database"].as_str().unwrap().to_owned(),
            questions: questions(),
            ledger,
            rows: Vec::new(),
        };
        run.rows = run.select(rows::SELECT);
        run
    }

    /// The answer to the question under `heading`. Each of `instead` is a text of the query, which
    /// must be in it once, and what to put there.
    pub(crate) fn ask(&self, heading: &str, instead: &[(&str, &str)]) -> Answer {
        self.ask_in(&self.database, heading, instead)
    }

    /// The same about the tables of another database.
    pub(crate) fn ask_in(&self, database: &str, heading: &str, instead: &[(&str, &str)]) -> Answer {
        let question = self.questions.iter().find(|it| it.heading == heading);
        let mut sql = question.unwrap_or_else(|| panic!("no question {heading:?}")).sql.clone();
        for (text, other) in instead {
            assert_eq!(sql.matches(text).count(), 1, "{text:?} in\n{sql}");
            sql = sql.replace(text, other);
        }
        // As whoever may only read.
        let who = (&*self.server.reader, &*self.server.reader_password);
        Answer { rows: self.send(who, database, &sql) }
    }

    /// What the server would read for the question, and by which keys and indexes.
    pub(crate) fn explain(&self, question: &Question) -> String {
        #[derive(serde::Deserialize)]
        struct Line {
            explain: String,
        }
        let who = (&*self.server.reader, &*self.server.reader_password);
        let sql = format!("EXPLAIN indexes = 1 {}", question.sql);
        let lines: Vec<Line> = self.send(who, &self.database, &sql);
        lines.into_iter().map(|it| it.explain + "\n").collect()
    }

    /// What a plain query gives.
    pub(crate) fn select<T: DeserializeOwned>(&self, sql: &str) -> Vec<T> {
        self.send((&self.server.user, &self.server.password), &self.database, sql)
    }

    /// Makes something, and gives nothing.
    pub(crate) fn execute(&self, sql: &str) {
        self.server.query(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    fn send<T: DeserializeOwned>(
        &self,
        (user, password): (&str, &str),
        database: &str,
        sql: &str,
    ) -> Vec<T> {
        let address = self.server.url.strip_prefix("http://").unwrap();
        let sql = format!("{sql}\nFORMAT JSONEachRow");
        let response =
            http::query(address, user, password, &[("database", database)], &sql).unwrap();
        assert_eq!(response.status, 200, "{}\n{sql}", response.body);
        let lines = response.body.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
            .collect()
    }
}

fn file(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cookbook-{}.{what}", std::process::id()))
}
