//! Requests of which a middleware keeps a clone.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};

/// A middleware that keeps a clone of the request while inner services handle it.
pub(crate) async fn hold(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let held = request.request().clone();
    let answer = next.call(request).await;
    drop(held);
    answer
}
