-- Removes all variants of one cache key, or of all cache keys of a hash.
--
-- KEYS[1]: the hash.
-- ARGV[1]: the id of the cache key, or '' for all cache keys.
-- Returns the number of variants.
local removed = 0
if ARGV[1] == '' then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
        if #field == 32 then removed = removed + 1 end
    end
    redis.call('UNLINK', KEYS[1])
    return removed
end
local index = redis.call('HGET', KEYS[1], 'm' .. ARGV[1])
if not index then return 0 end
local from = (string.find(index, '\n', 1, true) or #index) + 1
while from <= #index do
    local field = ARGV[1] .. string.sub(index, from, from + 15)
    removed = removed + redis.call('HDEL', KEYS[1], field)
    from = from + 50
end
redis.call('HDEL', KEYS[1], 'm' .. ARGV[1])
return removed
