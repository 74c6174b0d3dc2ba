//! What the writer may not do, to test against: a profile and a quota as an administrator gives them.

/// Limits of the writer. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Settings of its profile.
    pub settings: Vec<(String, String)>,
    /// Settings of its profile that a query may not change.
    pub pinned: Vec<(String, String)>,
    /// Inserts, and the seconds in which it may make so many.
    pub inserts: Option<(u32, u32)>,
}

impl Limits {
    /// The command line that asks for them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (option, list) in [("--setting", &self.settings), ("--pin", &self.pinned)] {
            for (name, value) in list {
                arguments.extend([option.to_owned(), format!("{name}={value}")]);
            }
        }
        if let Some((inserts, seconds)) = self.inserts {
            arguments.extend(["--inserts".to_owned(), format!("{inserts}/{seconds}")]);
        }
        arguments
    }

    /// Elements of its profile: the settings themselves, then the constraints on them.
    pub(crate) fn profile(&self) -> (String, String) {
        let (mut settings, mut constraints) = (String::new(), String::new());
        for (name, value) in self.settings.iter().chain(&self.pinned) {
            settings += &["      <", name, ">", value, "</", name, ">\n"].concat();
        }
        for (name, _) in &self.pinned {
            constraints += &["        <", name, "><const/></", name, ">\n"].concat();
        }
        (settings, constraints)
    }

    /// The element of its quota.
    pub(crate) fn quota(&self) -> String {
        self.inserts.map_or_else(String::new, |(inserts, seconds)| {
            format!(
                "<interval><duration>{seconds}</duration><query_inserts>{inserts}</query_inserts></interval>"
            )
        })
    }
}

/// Reads `NAME=VALUE`, of letters, digits and underscores.
#[must_use]
pub fn pair(text: &str) -> Option<(String, String)> {
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (name, value) = text.split_once('=').filter(|(name, value)| plain(name) && plain(value))?;
    Some((name.to_owned(), value.to_owned()))
}

/// Reads `INSERTS/SECONDS`.
#[must_use]
pub fn rate(text: &str) -> Option<(u32, u32)> {
    let (inserts, seconds) = text.split_once('/')?;
    Some((inserts.parse().ok()?, seconds.parse().ok().filter(|it| *it > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_what_they_are_asked_with() {
        assert_eq!(pair("max_threads=1"), Some(("max_threads".to_owned(), "1".to_owned())));
        assert_eq!((pair("a=<b>"), pair("a"), rate("3"), rate("3/0")), (None, None, None, None));
        assert_eq!(rate("3/20"), Some((3, 20)));
        let limits = Limits {
            settings: vec![("a".to_owned(), "1".to_owned())],
            pinned: vec![("b".to_owned(), "2".to_owned())],
            inserts: Some((3, 20)),
        };
        assert_eq!(limits.arguments(), ["--setting", "a=1", "--pin", "b=2", "--inserts", "3/20"]);
        let (settings, constraints) = limits.profile();
        assert!(settings.contains("<a>1</a>") && settings.contains("<b>2</b>"));
        assert!(constraints.contains("<b><const/></b>") && !constraints.contains("<a>"));
    }
}
