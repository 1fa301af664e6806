//! Numbers that stand for what a plan knows, each of a type of its own, so that none is taken for another.

macro_rules! ids {
    ($($(#[$about:meta])* $name:ident),*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(u32);

        impl $name {
            pub(crate) fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 of them fit into memory"))
            }

            pub(crate) fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}
ids! {
    /// A blob of the run: one digest in one size.
    BlobId,
    /// One name at the target that an image is to have.
    DeliveryId,
    /// A repository of the target.
    RepositoryId,
    /// An image of the run, in the order in which they were asked for.
    ImageId,
    /// A place that blobs come from.
    SourceId,
    /// A repository of such a place, or an address.
    OriginId
}
