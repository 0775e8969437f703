//! Settings of a policy: tags, and the purges by unsafe requests.

use actix_web::dev::ServiceRequest;

use super::{
    super::{
        tagging::Tagging,
        values::{DownstreamFields, RequestText},
    },
    Policy,
};
use crate::semantics::invalidation::{LocationField, Queries, Redirects, Requests};

impl Policy {
    /// Purges nothing because of an unsafe request, such as a `POST`.
    ///
    /// With this setting, handlers that change a resource must purge by
    /// [`CacheHandle`](crate::CacheHandle). Responses to `POST` are not stored either.
    ///
    /// Default: an unsafe request that succeeds purges its URL, the URLs in `Location` and
    /// `Content-Location`, and the groups that the response names (RFC 9111 section 4.4, RFC 9875).
    pub fn no_purge_by_requests(mut self) -> Self {
        self.invalidation.requests = Requests::Ignored;
        self
    }

    /// Purges nothing if an unsafe request, such as a `POST`, is answered with a redirect (3xx).
    ///
    /// Without this setting, each login that redirects to the home page purges the stored home
    /// page, and a middleware inside the cache that redirects `http` to `https` purges although no
    /// handler ran. With this setting, handlers that change a resource and answer with a redirect
    /// must purge by [`CacheHandle`](crate::CacheHandle).
    ///
    /// Default: a redirect purges the URL of the request, and the URLs in `Location` and
    /// `Content-Location`, as RFC 9111 section 4.4 requires of a response that is no error.
    pub fn no_purge_by_redirects(mut self) -> Self {
        self.invalidation.redirects = Redirects::Ignored;
        self
    }

    /// Does not purge the URL in `Location` of the response to an unsafe request.
    ///
    /// A client can often choose the URL in `Location`, for example by a parameter `next` of a
    /// login page. The client could thus purge any page of the same host.
    ///
    /// Default: the URL is purged if it is on the host of the request. RFC 9111 section 4.4 permits
    /// a cache to purge this URL, but does not require it.
    pub fn no_purge_by_location(mut self) -> Self {
        self.invalidation.location = LocationField::Ignored;
        self
    }

    /// Purges the path of an unsafe request, such as a `POST`, with every query.
    ///
    /// A `POST` to `/search?page=2` then purges `/search` and `/search?page=1`, too. The purge is a
    /// [record](crate::CacheHandle) in the store. Clients that can make requests to many paths succeed
    /// can therefore use up the records of their host. Responses to `POST` are not stored.
    ///
    /// Default: a request purges the URL with its own query only, as RFC 9111 section 4.4 requires. A
    /// query often names another resource, and the other responses of the path should stay.
    pub fn purge_paths_by_requests(mut self) -> Self {
        self.invalidation.queries = Queries::All;
        self
    }

    /// Gives all responses a tag (surrogate key) for
    /// [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag).
    ///
    /// In the policy of a [`Rule`](crate::Rule), the tag can contain parameters of the rule's path. For
    /// example, `post:{id}` in the rule for `/posts/{id}` becomes `post:1` for `/posts/1`. The values
    /// of parameters are decoded as [`web::Path`](actix_web::web::Path) decodes them.
    ///
    /// The tag must not be empty. A response also has the tags that its handler and its fields
    /// give. Several calls add up. A response with more than 64 tags, or with a tag of more than
    /// 256 bytes, is not stored.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Gives all responses a tag that the function `tag` computes from the request, such as a
    /// tenant or a shop. `None` adds no tag.
    ///
    /// The cache calls `tag` before it calls the handler, and does not call `tag` on a hit.
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::Computed(RequestText::new(tag)));
        self
    }

    /// Sets the response fields that list tags, such as `Cache-Tag` or `Surrogate-Key`.
    ///
    /// White space separates the tags in `Surrogate-Key` and `xkey`, and commas separate the tags
    /// in all other fields. Default: none. Besides these fields, the cache always reads
    /// `Cache-Groups` (RFC 9875), which lists the [groups](crate::CacheHandle::purge_group) of a
    /// response.
    ///
    /// Clients also receive the tag fields, unless [`remove_tag_fields`](Self::remove_tag_fields)
    /// is set.
    pub fn tag_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tag_fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// Writes the names of all tags of a response into the response field `name`, such as
    /// `Surrogate-Key` or `Cache-Tag`, so that a CDN in front of the application can purge by the same
    /// tags. [`CacheBuilder::on_purge`](crate::CacheBuilder::on_purge) tells the CDN about purges.
    ///
    /// Several calls add up. The names are those that the policy, the handler and the
    /// [`tag_fields`](Self::tag_fields) give. White space separates them in `Surrogate-Key` and
    /// `xkey`, and commas in all other fields. Tags that the handler itself sends in the field stay,
    /// and none is written twice. [Groups](crate::CacheHandle::purge_group) are not tags.
    ///
    /// In the field, a tag is percent-encoded, except visible ASCII characters other than `,` and `%`:
    /// `a b` becomes `a%20b`. An empty tag becomes `%`.
    /// [`PurgeEvent::emitted_tags`](crate::PurgeEvent::emitted_tags) returns tags in this form.
    ///
    /// All responses to `GET` and `HEAD` requests have the field, also those that the cache does not
    /// store, because the CDN may store them. With [`Mode::Off`](crate::Mode::Off), responses do not
    /// have it.
    ///
    /// Common CDNs accept up to 16 KiB in the field. If the tags are longer, the cache does not store
    /// the response, leaves out the field, and forbids caches in front of the application to store the
    /// response, by `Cache-Control: private` and by `no-store` in fields such as `CDN-Cache-Control`.
    /// Otherwise, the CDN would have a response that its purges do not reach.
    ///
    /// Default: the cache writes no tags. The CDN should remove the field from responses to clients.
    pub fn emit_tags(mut self, name: impl Into<String>) -> Self {
        self.emitted_tag_fields.push(name.into());
        self
    }

    /// Removes the [`tag_fields`](Self::tag_fields) from responses to clients.
    ///
    /// Fields that [`emit_tags`](Self::emit_tags) names are not removed.
    ///
    /// Default: the fields are kept, because a cache in front of the application may use them.
    pub fn remove_tag_fields(mut self) -> Self {
        self.tags_downstream = DownstreamFields::Removed;
        self
    }
}
