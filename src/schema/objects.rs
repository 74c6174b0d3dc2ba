//! What the migrations make, piece by piece: so that a piece that is missing can be made again.

use super::migrations::{FILES, SchemaOptions, is_for_a_cluster, statements};
use super::retention::split;

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: &'static str,
    /// The statement that makes it.
    pub create: String,
    /// The columns of a table, in order; of a view none.
    pub columns: Vec<Column>,
    /// The view that fills it, or for a view the view itself; `None` where nothing depends on one.
    pub filled_by: Option<&'static str>,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its name with type, codec and comment, as a statement takes it.
    pub definition: &'static str,
}

/// What stands on one server once every migration was applied, in the order in which it is made.
///
/// ```
/// use tracing_activity::schema::{SchemaOptions, objects};
/// let names: Vec<&str> = objects(&SchemaOptions::default()).iter().map(|it| it.name).collect();
/// assert_eq!(names[..3], ["activities", "activity_minutes", "activity_minutes_mv"]);
/// ```
#[must_use]
pub fn objects(options: &SchemaOptions) -> Vec<Object> {
    let options = SchemaOptions { cluster: None, ..options.clone() };
    let templates = FILES.into_iter().flat_map(|(_, _, file)| statements(file));
    let objects = templates.filter(|sql| !is_for_a_cluster(sql)).filter_map(|template| {
        let (_, rest) = template.split_once(" IF NOT EXISTS {database}.")?;
        let name = &rest[..rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_')?];
        Some((name, template))
    });
    let objects: Vec<_> = objects.collect();
    let views: Vec<&str> = objects.iter().map(|it| it.0).filter(|it| it.ends_with("_mv")).collect();
    let filled_by = |name: &str| {
        views.iter().copied().find(|view| *view == name || view.strip_suffix("_mv") == Some(name))
    };
    objects
        .iter()
        .map(|&(name, template)| Object {
            name,
            create: options.fill(template),
            columns: columns(template),
            filled_by: filled_by(name),
        })
        .collect()
}

/// The columns of a statement that makes a table.
fn columns(template: &'static str) -> Vec<Column> {
    let Some((_, body)) = template.split_once("\n(\n") else { return Vec::new() };
    let Some((body, _)) = body.split_once("\n)\nENGINE") else { return Vec::new() };
    let definitions = split(body).into_iter().map(without_comments);
    let definitions = definitions.filter(|it| !it.starts_with("INDEX "));
    definitions
        .filter_map(|definition| Some(Column { name: definition.split(' ').next()?, definition }))
        .collect()
}

/// What stands after the comments in front.
fn without_comments(definition: &str) -> &str {
    match definition.strip_prefix("--").and_then(|it| it.split_once('\n')) {
        Some((_, rest)) => without_comments(rest.trim_start()),
        None => definition,
    }
}

/// Whether a column is derived as builds before this one derived it: `expression` is the server's
/// own text.
#[must_use]
pub fn is_outdated(table: &str, column: &str, expression: &str) -> bool {
    const OUTDATED: [(&str, &str, &str); 1] = [
        // One row with a key twice failed every question.
        (
            "activities",
            "data_json",
            "CAST(if(isValidJSON(data) AND startsWith(data, '{'), data, '{}'), 'JSON')",
        ),
    ];
    OUTDATED.contains(&(table, column, expression))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::COLUMNS;

    #[test]
    fn every_migration_is_made_of_objects() {
        let objects = objects(&SchemaOptions { database: "shop".to_owned(), ..Default::default() });
        let statements = crate::schema::migrations(&SchemaOptions {
            database: "shop".to_owned(),
            ..Default::default()
        });
        let statements: Vec<String> = statements.into_iter().flat_map(|it| it.statements).collect();
        let made: Vec<&str> = objects.iter().map(|it| it.create.as_str()).collect();
        assert_eq!(made, statements);
        let filled: Vec<_> =
            objects.iter().filter_map(|it| Some((it.name, it.filled_by?))).collect();
        assert_eq!(
            filled,
            [
                ("activity_minutes", "activity_minutes_mv"),
                ("activity_minutes_mv", "activity_minutes_mv"),
                ("trace_shapes", "trace_shapes_mv"),
                ("trace_shapes_mv", "trace_shapes_mv"),
            ]
        );
    }

    #[test]
    fn columns_stand_with_all_that_belongs_to_them() {
        let objects = objects(&SchemaOptions::default());
        let activities = &objects[0].columns;
        for (name, kind) in COLUMNS {
            let column = activities.iter().find(|it| it.name == *name);
            let definition = column.expect(name).definition;
            assert!(definition[name.len()..].trim_start().starts_with(kind), "{definition}");
        }
        let of = |name| activities.iter().find(|it| it.name == name).expect(name).definition;
        assert!(of("visit_id").ends_with("SETTINGS (min_compress_block_size = 1048576)"));
        assert!(of("span_id").starts_with("span_id  ") && of("span_id").ends_with("activity_id'"));
        assert!(of("trace").ends_with("COMMENT 'The spans as JSON, for people'"));
        assert!(activities.iter().all(|it| !it.definition.ends_with(',')));
        for object in &objects {
            let is_table = object.create.contains("CREATE TABLE IF NOT EXISTS");
            assert_eq!(object.columns.is_empty(), !is_table, "{}", object.name);
        }
    }
}
