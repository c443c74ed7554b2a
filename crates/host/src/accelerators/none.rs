//! A host without accelerators.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Accelerator, Accelerators, CardState, Lease, LeaseError, LeaseRequest, Released, View};
use crate::BoundaryId;

/// Gives empty leases only; who asks for a card is refused at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccelerators;

#[async_trait]
impl Accelerators for NoAccelerators {
    fn provider(&self) -> &str {
        "none"
    }

    async fn view(&self) -> Result<View, LeaseError> {
        Ok(View { provider: "none".into(), ..View::default() })
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        if request.wants_any() {
            return Err(LeaseError::Impossible {
                asked: request.in_words(),
                there: "none (accelerator provider `none`)".to_owned(),
            });
        }
        Ok(Lease { holder: request.holder.clone(), devices: Vec::new() })
    }

    async fn would_get(&self, request: &LeaseRequest) -> Result<Vec<Accelerator>, LeaseError> {
        self.lease(request).await.map(|lease| lease.devices)
    }

    async fn leased(&self, _holder: &BoundaryId) -> Result<Option<Lease>, LeaseError> {
        Ok(None)
    }

    async fn release(&self, _holder: &BoundaryId) -> Result<Released, LeaseError> {
        Ok(Released::Now)
    }

    async fn sample(&self, _holder: &BoundaryId) -> Option<Vec<(u32, CardState)>> {
        None
    }

    async fn forgotten(&self, _open: &BTreeSet<BoundaryId>) -> Result<Vec<BoundaryId>, LeaseError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(count: u32) -> LeaseRequest {
        LeaseRequest {
            holder: BoundaryId::new(1, 0),
            count,
            kind: Some("910B".into()),
            min_memory_bytes: Some(32 << 30),
            device_ids: Vec::new(),
            words: "instance 1".into(),
            waits: false,
        }
    }

    #[tokio::test]
    async fn a_request_for_cards_fails_at_once_with_what_was_asked_and_what_is_there() {
        let error = NoAccelerators.lease(&request(2)).await.expect_err("there are no cards");
        assert!(matches!(error, LeaseError::Impossible { .. }));
        let text = error.to_string();
        assert!(text.contains("2 accelerators of type 910B with at least 32.0 GiB each"), "{text}");
        assert!(text.contains("there is none"), "{text}");
        let mut named = request(0);
        named.device_ids = vec!["0".into()];
        assert!(NoAccelerators.lease(&named).await.is_err());
    }

    #[tokio::test]
    async fn a_request_for_no_cards_gets_an_empty_lease() {
        let lease = NoAccelerators.lease(&request(0)).await.expect("nothing was asked");
        assert!(lease.devices.is_empty());
    }
}
