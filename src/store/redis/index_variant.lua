-- Adds a newly written variant to the index of its hash, or removes the variant from the hash
-- again.
--
-- KEYS[1]: the hash of a cache key.
-- ARGV: 1 the id of the variant; 2 the names of its selecting fields; 3 the milliseconds to keep
--       the variant; 4 the maximum number of variants.
-- An HSET before this script wrote the response, so that no body passes through Lua.
-- Returns 1 if the variant is stored, 0 if it was removed.
local variant, names, max_variants = ARGV[1], ARGV[2], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored_names = redis.call('HGET', KEYS[1], 'n')
-- Ignore the stored names if they are damaged, so that the new names replace them.
if stored_names and string.find(stored_names, "[^%w!#$%%&'*+%-.^_`|~,]") then
    stored_names = false
end
local index = redis.call('HGET', KEYS[1], 'i') or ''

-- Refuse the new variant if the stored variants have a selecting field that the new variant lacks:
-- the new variant may be for another value of that field.
local refused = false
if stored_names and stored_names ~= names then
    for name in string.gmatch(stored_names, '[^,]+') do
        if not string.find(',' .. names .. ',', ',' .. name .. ',', 1, true) then
            refused = true
        end
    end
end

local kept, last_expiry, removed = {}, 0, {}
local function keep(id, expiry)
    kept[#kept + 1] = id .. string.format('%016.0f', expiry)
    last_expiry = math.max(last_expiry, expiry)
end
if refused then
    removed[1] = variant
else
    keep(variant, now + tonumber(ARGV[3]))
end

-- Drop the stored variants if the new variant has more selecting fields: the stored variants may be
-- for other values of the additional fields.
local keep_stored = refused or stored_names == names
for from = 1, #index, 32 do
    local id = string.sub(index, from, from + 15)
    local expiry = tonumber(string.sub(index, from + 16, from + 31))
    if id ~= variant then
        if keep_stored and expiry and expiry > now and #kept < max_variants then
            keep(id, expiry)
        else
            removed[#removed + 1] = id
        end
    end
end

if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end
if not refused then redis.call('HSET', KEYS[1], 'n', names) end
redis.call('HSET', KEYS[1], 'i', table.concat(kept))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(last_expiry, now + 1)))
return refused and 0 or 1
