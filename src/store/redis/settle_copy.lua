-- Removes a newly written coded copy again if the record of its response is not stored any more.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the field of the record; 2 the field of the copy.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then redis.call('HDEL', KEYS[1], ARGV[2]) end
