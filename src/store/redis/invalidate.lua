-- Adds invalidations and removals to the invalidation table. Begins a new table if Redis lost the
-- table, even if there is nothing to add.
--
-- KEYS: 1 the invalidations; 2 the removals of cache keys and URLs.
-- ARGV: 1 the latest epoch that the caller knows; 2 the microseconds to keep an invalidation; 3 the
--       microseconds to keep a removal; 4 the maximum number of invalidations; 5 the maximum number
--       of removals; 6 and on: the members to add. A member that begins with k is the tag of a
--       removal.
-- Times are microseconds of this server's clock. Each new time is later than all earlier times.
-- Returns the epoch: the time of the latest invalidation or removal.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = tonumber(ARGV[1])
-- Another program may have replaced the table, or a part of it.
local function is_foreign(kind)
    return kind.ok ~= 'zset' and kind.ok ~= 'none'
end
if is_foreign(redis.call('TYPE', KEYS[1])) then redis.call('UNLINK', KEYS[1]) end
if is_foreign(redis.call('TYPE', KEYS[2])) then redis.call('UNLINK', KEYS[2]) end
local epoch = tonumber(redis.call('ZSCORE', KEYS[1], 'e') or -1)
-- Redis lost the table if the epoch is missing, or earlier than the epoch that the caller knows. An
-- epoch of 0, or one that a double cannot count up (2^53, in the year 2255), is damaged.
local lost = not epoch or epoch < 1 or epoch < known or epoch >= 9007199254740992
if lost then epoch = -1 end
if #ARGV < 6 and not lost then
    return string.format('%.0f', epoch)
end

local at = math.max(now, epoch + 1, known + 1)
local score = string.format('%.0f', at)
if lost then
    -- Unknown invalidations were lost, so invalidate all responses (member f).
    redis.call('UNLINK', KEYS[1], KEYS[2])
    redis.call('ZADD', KEYS[1], score, 'f')
end
for i = 6, #ARGV do
    if string.sub(ARGV[i], 1, 1) == 'k' then
        redis.call('ZADD', KEYS[2], score, string.sub(ARGV[i], 2))
        redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[3] / 500))
        -- The time of the latest removal (member r), by which readers notice that Redis lost the
        -- removals alone.
        redis.call('ZADD', KEYS[1], score, 'r')
    else
        -- The purge of all responses (member f) makes all earlier invalidations superfluous.
        if ARGV[i] == 'f' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. score) end
        redis.call('ZADD', KEYS[1], score, ARGV[i])
    end
end

-- Remove expired invalidations and removals. Each call removes at most 128 removals, which bounds
-- the time of the call.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', at - ARGV[2]))
local oldest = string.format('(%.0f', at - ARGV[3])
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', oldest, 'LIMIT', 0, 128)
if #expired > 0 then redis.call('ZREM', KEYS[2], unpack(expired)) end

-- If there are too many removals, drop the oldest ones. The time of the last dropped one (member d)
-- remains: a response of an earlier fill is not stored any more.
if redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[5]) then
    local dropped = 1023
    local cut = redis.call('ZRANGE', KEYS[2], dropped, dropped, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, dropped)
    redis.call('ZADD', KEYS[2], cut, 'd')
end

-- If there are too many invalidations, replace the older half by one invalidation of all responses
-- (member o) at the latest time of that half.
local max_members = tonumber(ARGV[4])
if redis.call('ZCARD', KEYS[1]) > max_members then
    local half = math.floor(max_members / 2)
    local cut = redis.call('ZRANGE', KEYS[1], half, half, 'WITHSCORES')[2]
    local all = tonumber(redis.call('ZSCORE', KEYS[1], 'o') or 0)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', cut)
    redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(all, tonumber(cut))), 'o')
end

-- The epoch is one microsecond later than the new members, so that a process that knows the epoch
-- does not read these members again.
local new_epoch = string.format('%.0f', at + 1)
redis.call('ZADD', KEYS[1], new_epoch, 'e')
redis.call('PUBLISH', KEYS[1], new_epoch)
return new_epoch
