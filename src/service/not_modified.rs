//! What the handler says of a stored response without sending it again: by a 304, or by a 200 to
//! HEAD.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{AGE, DATE},
    },
};

use crate::{
    entry::response::StoredResponse,
    fill::write::{Write, warn},
    fill::{Candidate, FillReply},
    outcome::{NotStored, Stored},
    policy::merge_tags,
    purge::execute::within,
    response::cached::{body_of, conditioned},
    semantics::{
        connection::ConnectionFields, fields::set_date, storing::StoragePlan,
        validation::updated_fields,
    },
};

/// Answers with what is stored, freshened by a 304 that speaks of it (section 4.3.4).
pub(crate) fn by_not_modified<B>(
    candidate: Candidate,
    stored: &StoredResponse,
    answer: ServiceResponse<B>,
) -> FillReply<B> {
    let now = candidate.shared.settings.clock.now();
    let mut fields = updated_fields(stored, answer.headers());
    let verdict = candidate.decide(&answer, stored.status, &fields, now);
    let verdict = verdict.and_then(|plan| with_tags_of(plan, stored));
    let request = candidate.request.clone();
    let (kept, write) = match verdict {
        Ok(plan) => {
            let draft = candidate.prepare(&plan, stored.status, &mut fields, now);
            (Stored::Yes, Some(candidate.into_write(draft).of(stored.body.clone())))
        }
        Err(why) => {
            log::trace!("not freshened: {why:?}");
            (Stored::No(why), None)
        }
    };
    if !fields.contains_key(DATE) {
        set_date(&mut fields, DATE, now.system_time());
    }
    let (http_request, _) = answer.into_parts();
    let mut response = HttpResponse::with_body(stored.status, body_of(stored.status, &stored.body));
    let named = ConnectionFields::of(&fields);
    for (name, value) in &fields {
        // An age is that of the 304: none is stored.
        if named.may_be_stored(name) || *name == AGE {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    let response = conditioned(http_request.method(), &request, response, &stored.body);
    FillReply { response: ServiceResponse::new(http_request, response), stored: kept, write }
}

/// Updates what is stored by a 200 to HEAD that speaks of it (section 4.3.5), and completes that
/// answer by what it left out.
pub(crate) fn by_head<B>(
    candidate: Candidate,
    stored: &StoredResponse,
    answer: &mut ServiceResponse<B>,
) -> Option<Write> {
    let now = candidate.shared.settings.clock.now();
    let mut fields = updated_fields(stored, answer.headers());
    let verdict = candidate.decide(answer, StatusCode::OK, &fields, now);
    let plan = match verdict.and_then(|plan| with_tags_of(plan, stored)) {
        Ok(plan) => plan,
        Err(why) => {
            log::trace!("not freshened by HEAD: {why:?}");
            return None;
        }
    };
    let draft = candidate.prepare(&plan, stored.status, &mut fields, now);
    let own = answer.headers_mut();
    // RFC 9110 section 9.3.2: an answer to HEAD may lack what only making the content tells.
    let absent: Vec<_> = fields.iter().filter(|(name, _)| !own.contains_key(*name)).collect();
    for (name, value) in absent {
        own.append(name.clone(), value.clone());
    }
    Some(candidate.into_write(draft).of(stored.body.clone()))
}

/// A handler that does not make the page again may not say again what it is named by.
fn with_tags_of(mut plan: StoragePlan, stored: &StoredResponse) -> Result<StoragePlan, NotStored> {
    merge_tags(&mut plan.tags, &stored.tags)?;
    Ok(plan)
}

impl Candidate {
    pub(crate) fn into_write(self, draft: StoredResponse) -> Write {
        Write { shared: self.shared, key: self.key, fill: self.fill, leading: self.leading, draft }
    }

    /// Forgets what is stored under the key.
    pub(crate) async fn forget(self) {
        let store = Arc::clone(&self.shared.store);
        store.coordinator().invalidate_fills(&self.key);
        if let Err(error) = within(store.remove(&self.key)).await {
            warn(&self.shared, &error);
        }
    }
}
