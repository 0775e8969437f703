-- Adds a newly written variant to the index of its cache key, or removes the variant again.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the id of the cache key; 2 the id of the variant; 3 the names of its selecting fields;
--       4 the milliseconds to keep the variant; 5 the maximum number of variants; 6 the token of the
--       write; 7 the milliseconds to keep the hash until the write is confirmed, or '' if the write
--       needs no confirmation.
-- An HSET before this script wrote the response, so that no body passes through Lua.
-- Returns 1 if the variant is stored, 0 if it was removed.
local id, variant, names, max_variants = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The index of a cache key: the names of the selecting fields, a line feed, and the id, the expiry
-- and the write token of each variant. A damaged index is replaced.
local function read_index(field)
    local text = redis.call('HGET', KEYS[1], field) or ''
    return string.match(text, "^([%w!#$%%&'*+%-.^_`|~,]*)\n(.*)$")
end
local stored_names, index = read_index('m' .. id)
index = index or ''

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
local function keep(kept_variant, expiry, token)
    kept[#kept + 1] = kept_variant .. string.format('%016.0f', expiry) .. token
    last_expiry = math.max(last_expiry, expiry)
end
if refused then
    removed[1] = id .. variant
else
    keep(variant, now + tonumber(ARGV[4]), ARGV[6])
end

-- Drop the stored variants if the new variant has more selecting fields: the stored variants may be
-- for other values of the additional fields.
local keep_stored = refused or stored_names == names
for from = 1, #index, 48 do
    local stored = string.sub(index, from, from + 15)
    local expiry = tonumber(string.sub(index, from + 16, from + 31))
    if stored ~= variant then
        if keep_stored and expiry and expiry > now and #kept < max_variants then
            keep(stored, expiry, string.sub(index, from + 32, from + 47))
        else
            removed[#removed + 1] = id .. stored
        end
    end
end

if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end
local new_names = refused and stored_names or names
redis.call('HSET', KEYS[1], 'm' .. id, new_names .. '\n' .. table.concat(kept))

-- The hash has the variants of other cache keys, too. Remove cache keys whose variants have all
-- expired. A random sample is enough: in a hash with many expired variants, a sample finds some.
if redis.call('HLEN', KEYS[1]) > 64 then
    for _, field in ipairs(redis.call('HRANDFIELD', KEYS[1], 8)) do
        if #field == 17 and string.sub(field, 1, 1) == 'm' then
            local _, other = read_index(field)
            local expired, expired_fields = true, { field }
            for from = 1, #(other or ''), 48 do
                local expiry = tonumber(string.sub(other, from + 16, from + 31))
                expired = expired and not (expiry and expiry > now)
                local stored = string.sub(other, from, from + 15)
                expired_fields[#expired_fields + 1] = string.sub(field, 2) .. stored
            end
            if expired then redis.call('HDEL', KEYS[1], unpack(expired_fields)) end
        end
    end
end

-- The hash expires with its last variant, or earlier if a write is not confirmed in time.
local last = math.max(tonumber(redis.call('HGET', KEYS[1], 'x') or 0) or 0, last_expiry, now + 1)
redis.call('HSET', KEYS[1], 'x', string.format('%.0f', last))
local unconfirmed, expiry = redis.call('HGET', KEYS[1], 'u') or '', last
if ARGV[7] ~= '' and not refused then
    unconfirmed = unconfirmed .. string.format('%s:%.0f;', ARGV[6], now + ARGV[7])
    redis.call('HSET', KEYS[1], 'u', unconfirmed)
end
for deadline in string.gmatch(unconfirmed, '%x+:(%d+);') do
    expiry = math.min(expiry, tonumber(deadline))
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expiry))
return refused and 0 or 1
