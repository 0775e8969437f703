-- Replaces many invalidations in the invalidation table by one that applies to the same responses.
--
-- KEYS[1]: the invalidations.
-- ARGV: 1 the time of the new invalidation; 2 its member, which the table may have already, with an
--       earlier time; 3 and on: the members that it replaces. A member with a later time is a newer
--       invalidation, and stays.
-- The epoch does not change: processes that know the replaced invalidations need not read the new
-- one.
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return end
if not redis.call('ZSCORE', KEYS[1], 'e') then return end
redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2])
local at = tonumber(ARGV[1])
for i = 3, #ARGV do
    local time = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or nil)
    if time and time <= at and ARGV[i] ~= ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
