//! [`VisitMark`]: what the middleware found out of visit and tracker, on its way into the row.

use crate::model::Activity;

/// The columns of visit and tracker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct VisitMark {
    pub(crate) visit_id: String,
    pub(crate) visit_created: bool,
    pub(crate) tracker_id: String,
    pub(crate) tracker_created: bool,
    pub(crate) campaign: String,
    pub(crate) visit_referer: String,
}

impl VisitMark {
    /// Memory held, about.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.visit_id, &self.tracker_id, &self.campaign, &self.visit_referer];
        size_of::<Self>() + texts.into_iter().map(String::len).sum::<usize>()
    }

    pub(super) fn fill(self, activity: &mut Activity) {
        activity.visit_id = self.visit_id;
        activity.visit_created = self.visit_created;
        activity.tracker_id = self.tracker_id;
        activity.tracker_created = self.tracker_created;
        activity.campaign = self.campaign;
        activity.visit_referer = self.visit_referer;
    }
}
