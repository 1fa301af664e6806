//! The names that images are to have at the target, and what has become of them.

use crate::error::Error;
use crate::events::Outcome;
use crate::plan::{DeliveryId, ImageId};

/// One name at the target.
#[derive(Debug)]
struct Delivery {
    image: ImageId,
    /// Which of the image's names.
    name: u32,
    outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// By id of the plan.
    all: Vec<Delivery>,
    /// By image, the first of its deliveries and their number, once it is resolved.
    of_images: Vec<Option<(DeliveryId, u32)>>,
}

impl Deliveries {
    /// Enters the deliveries of an image, in the order of its names. Their ids follow those that were entered before.
    pub(super) fn enter(&mut self, image: ImageId, ids: impl Iterator<Item = DeliveryId>) {
        let first = DeliveryId::new(self.all.len());
        for (name, id) in (0..).zip(ids) {
            debug_assert_eq!(id.index(), self.all.len());
            self.all.push(Delivery { image, name, outcome: None });
        }
        if self.of_images.len() <= image.index() {
            self.of_images.resize(image.index() + 1, None);
        }
        let number = u32::try_from(self.all.len() - first.index()).expect("an image has few names");
        self.of_images[image.index()] = Some((first, number));
    }

    /// The image that is delivered, and which of its names it gets.
    pub(super) fn image_and_name(&self, id: DeliveryId) -> (ImageId, usize) {
        let delivery = &self.all[id.index()];
        (delivery.image, delivery.name as usize)
    }

    /// Notes what has become of a delivery; `false` if that was known already, and stays.
    pub(super) fn settle(&mut self, id: DeliveryId, outcome: &Outcome) -> bool {
        let known = &mut self.all[id.index()].outcome;
        let is_new = known.is_none();
        known.get_or_insert_with(|| outcome.clone());
        is_new
    }

    /// Why an image has none of its names, if it has failed for all of them.
    pub(super) fn failures(&self, image: ImageId) -> Option<Vec<&Error>> {
        let (first, number) = self.of_images.get(image.index()).copied().flatten()?;
        let deliveries = &self.all[first.index()..first.index() + number as usize];
        let failures = deliveries.iter().map(|delivery| match &delivery.outcome {
            Some(Outcome::Failed(error)) => Some(&**error),
            _ => None,
        });
        failures.collect()
    }

    /// Takes what has become of each name of an image, as far as it is settled; `None` if the image was never resolved.
    pub(super) fn take_outcomes(&mut self, image: ImageId) -> Option<Vec<Option<Outcome>>> {
        let (first, number) = self.of_images.get(image.index()).copied().flatten()?;
        let deliveries = &mut self.all[first.index()..first.index() + number as usize];
        Some(deliveries.iter_mut().map(|delivery| delivery.outcome.take()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::Extent;

    #[test]
    fn the_first_outcome_of_a_name_stays_and_is_told_by_image() {
        let (a, b) = (ImageId::new(7), ImageId::new(2));
        let id = DeliveryId::new;
        let mut deliveries = Deliveries::default();
        deliveries.enter(a, [id(0), id(1)].into_iter());
        deliveries.enter(b, [id(2)].into_iter());
        assert_eq!(deliveries.image_and_name(id(1)), (a, 1));
        assert_eq!(deliveries.image_and_name(id(2)), (b, 0));
        assert!(deliveries.settle(id(1), &Outcome::Present(Extent::Whole)));
        assert!(!deliveries.settle(id(1), &Outcome::Left("late".to_owned())));
        let of_a = deliveries.take_outcomes(a).unwrap();
        assert!(matches!(of_a[..], [None, Some(Outcome::Present(_))]), "{of_a:?}");
        assert_eq!(deliveries.take_outcomes(b).unwrap().len(), 1);
        assert!(deliveries.take_outcomes(ImageId::new(3)).is_none());
    }
}
