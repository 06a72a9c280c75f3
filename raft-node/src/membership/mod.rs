//! Who belongs to the cluster: bootstrap and identity.
