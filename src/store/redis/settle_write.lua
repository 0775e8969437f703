-- Confirms a write: the hash may now be kept for as long as its variants. If an invalidation applies
-- to the written variant, removes the variant.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the token of the write; 2 the field of the variant to remove, or ''.
if ARGV[2] ~= '' then redis.call('HDEL', KEYS[1], ARGV[2]) end
local unconfirmed = redis.call('HGET', KEYS[1], 'u')
local last = tonumber(redis.call('HGET', KEYS[1], 'x') or nil)
if not unconfirmed or not last then return end
local left, expiry = '', last
for token, deadline in string.gmatch(unconfirmed, '(%x+):(%d+);') do
    if token ~= ARGV[1] then
        left = left .. token .. ':' .. deadline .. ';'
        expiry = math.min(expiry, tonumber(deadline))
    end
end
if left == '' then
    redis.call('HDEL', KEYS[1], 'u')
else
    redis.call('HSET', KEYS[1], 'u', left)
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expiry))
