-- Confirms a write: the hash may now be kept for as long as its variants. If an invalidation applies
-- to the written variant, removes the variant, unless a later write has replaced it.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the token of the write; and for a variant to remove, 2 the id of its cache key, and 3 the
--       id of the variant.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return end
local id, variant = ARGV[2], ARGV[3]
if variant then
    local index = string.match(redis.call('HGET', KEYS[1], 'm' .. id) or '', '\n(.*)$') or ''
    for from = 1, #index, 50 do
        local token = string.sub(index, from + 32, from + 47)
        if string.sub(index, from, from + 15) == variant and token == ARGV[1] then
            local record = id .. variant
            redis.call('HDEL', KEYS[1], record, record .. 'b', record .. 'z', record .. 'g')
        end
    end
end
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
