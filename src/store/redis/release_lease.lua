-- Deletes a lease if the caller still holds it.
--
-- KEYS[1]: the lease.  ARGV[1]: the token of the caller.
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('UNLINK', KEYS[1])
end
return 0
