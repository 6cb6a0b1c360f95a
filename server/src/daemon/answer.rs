//! Answers that are not what was asked for: a status, what is wrong, what to do.

use std::error::Error;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use simulcast_image::store::StoreError;
use simulcast_protocol::api::ErrorBody;

/// A request is not answered as asked.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    hint: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            hint: hint.into(),
        }
    }

    /// The request makes no sense.
    pub(super) fn nonsense(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, "")
    }

    /// Something that must not happen did, on this side.
    pub(super) fn trouble(error: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error,
            "the log of si-server says more",
        )
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::NoImage(_) | StoreError::NoVersion { .. } => {
                Self::new(StatusCode::NOT_FOUND, text, "GET /v1/images lists what there is")
            }
            StoreError::ChunkMissing(_) => Self::new(
                StatusCode::NOT_FOUND,
                text,
                "run si-fsck on the image server: it names missing chunks and the versions that need them",
            ),
            _ => {
                tracing::error!(error = %text, "the store failed");
                Self::trouble(text)
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: self.error,
            hint: self.hint,
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// An error with its causes: `a: b: c`.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
