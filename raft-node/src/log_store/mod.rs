//! The segmented, recycled log shared by all groups of a node.
