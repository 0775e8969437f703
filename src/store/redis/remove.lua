-- Removes all variants of one cache key, or of all cache keys of a hash.
--
-- KEYS[1]: the hash.
-- ARGV[1]: the id of the cache key, or '' for all cache keys.
-- Returns the number of variants.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local id, removed = ARGV[1], 0
local index = id ~= '' and redis.call('HGET', KEYS[1], 'm' .. id)
local variants = index and string.match(index, '^[^\n]*\n(.*)$') or ''
if #variants > 0 and #variants % 50 == 0 then
    for from = 1, #variants, 50 do
        local record = id .. string.sub(variants, from, from + 15)
        removed = removed + redis.call('HDEL', KEYS[1], record)
        -- The copies in the codings br, zstd and gzip.
        redis.call('HDEL', KEYS[1], record .. 'b', record .. 'z', record .. 'g')
    end
    redis.call('HDEL', KEYS[1], 'm' .. id)
    return removed
end
-- The index is missing or damaged. The fields tell the variants, too, but there may be many of them.
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if (#field == 32 or #field == 33) and string.sub(field, 1, #id) == id then
        if #field == 32 then removed = removed + 1 end
        if id ~= '' then redis.call('HDEL', KEYS[1], field) end
    end
end
if id == '' then
    redis.call('UNLINK', KEYS[1])
else
    redis.call('HDEL', KEYS[1], 'm' .. id)
end
return removed
