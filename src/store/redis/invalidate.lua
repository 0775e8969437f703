-- Records invalidations, or, where none are given, sees to it that the table is there.
-- KEYS: the table; single keys' marks by age.  ARGV: the highest time the caller knows of;
-- microseconds that marks count; the same of single keys' marks; marks kept at most; the marks.
-- The time is that of this server in microseconds, and larger than every time before it.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = tonumber(ARGV[1])
local last = tonumber(redis.call('ZSCORE', KEYS[1], 'e') or -1)
-- Lost, or as it was before what somebody knows of.
local lost = last < 0 or last < known
if #ARGV < 5 and not lost then
    return string.format('%.0f', last)
end
local at = math.max(now, last + 1, known + 1)
local mark = string.format('%.0f', at)
if lost then
    redis.call('UNLINK', KEYS[1], KEYS[2])
    redis.call('ZADD', KEYS[1], mark, 'f')
end
for i = 5, #ARGV do
    redis.call('ZADD', KEYS[1], mark, ARGV[i])
    if string.sub(ARGV[i], 1, 1) == 'k' then
        redis.call('ZADD', KEYS[2], mark, ARGV[i])
        redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[3] / 500))
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', at - ARGV[2]))
local over = string.format('(%.0f', at - ARGV[3])
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', over, 'LIMIT', 0, 128)
if #old > 0 then
    redis.call('ZREM', KEYS[2], unpack(old))
    redis.call('ZREM', KEYS[1], unpack(old))
end
local most = tonumber(ARGV[4])
if redis.call('ZCARD', KEYS[1]) > most then
    local half = math.floor(most / 2)
    local cut = redis.call('ZRANGE', KEYS[1], half, half, 'WITHSCORES')[2]
    local floor = tonumber(redis.call('ZSCORE', KEYS[1], 'f') or 0)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', cut)
    redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(floor, tonumber(cut))), 'f')
end
-- After all marks by one, so that who knows this time is not sent them again.
local epoch = string.format('%.0f', at + 1)
redis.call('ZADD', KEYS[1], epoch, 'e')
redis.call('PUBLISH', KEYS[1], epoch)
return epoch
