//! Points of metrics in the model.

use std::collections::BTreeMap;

use super::{KeepMetrics, ListPoints, MetricsPoint, MetricsPointId};
use crate::{
    Order, Page, Time,
    filter::{ordered, page},
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    points: BTreeMap<MetricsPointId, MetricsPoint>,
}

impl ModelPart for Model {
    fn history(&self) -> Vec<(Time, u64)> {
        let points = self.points.iter();
        points.map(|(id, point)| (point.keep_until, id.0)).collect()
    }

    fn forget(&mut self, number: u64) {
        self.points.remove(&MetricsPointId(number));
    }
}

impl Model {
    pub(super) fn list(&self, asked: &ListPoints) -> Page<MetricsPoint, MetricsPointId> {
        let points = self.points.values().filter(|point| asked.matches(point));
        page(
            ordered(points, Order::Ascending),
            asked.limit,
            MetricsPoint::id,
        )
    }
}

impl KeepMetrics {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let points = &mut model.metrics.points;
        points.entry(self.point.id()).or_insert(self.point);
    }
}
