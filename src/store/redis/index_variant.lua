-- Adds a newly written variant to the index of its cache key, or removes the variant again.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the id of the cache key; 2 the id of the variant; 3 the names of its selecting fields;
--       4 the milliseconds to keep the variant; 5 the maximum number of variants; 6 the token of the
--       write; 7 the milliseconds to keep the hash until the write is confirmed, or '' if the write
--       needs no confirmation; 8 the class of the variant, 'c' if any client could have chosen its
--       forwarded fields, otherwise 'o'.
-- An HSET before this script wrote the response, so that no body passes through Lua.
-- Returns 1 if the variant is stored, 0 if it was removed.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local id, variant, names, max_variants = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The index of a cache key: the names of the selecting fields, the time at which the numbers of uses
-- were halved, and the variants. A variant has 50 bytes: its id (16), its expiry (16), its write
-- token (16), its class (1), and the number of its counted uses (1). A damaged index is replaced.
local function read_index(field)
    local text = redis.call('HGET', KEYS[1], field) or ''
    local names, halved, index = string.match(text, "^([%w!#$%%&'*+%-.^_`|~,]*) (%d+)\n(.*)$")
    if not index or #index % 50 ~= 0 then return end
    return names, halved, index
end
-- Adds the fields of a variant to a list: its record, and its copies in the codings br, zstd and gzip.
local function add_fields(fields, record)
    for _, coding in ipairs({ '', 'b', 'z', 'g' }) do fields[#fields + 1] = record .. coding end
end
-- Removes the records of a cache key whose index is damaged, and their copies. Otherwise they would
-- stay for as long as the hash.
local function remove_records(of, kept)
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
        local is_of_variant = #field == 32 or #field == 33
        if is_of_variant and string.sub(field, 1, 16) == of and string.sub(field, 1, 32) ~= kept then
            redis.call('HDEL', KEYS[1], field)
        end
    end
end
local stored_names, halved, index = read_index('m' .. id)
if not index and redis.call('HGET', KEYS[1], 'm' .. id) then remove_records(id, id .. variant) end
halved, index = tonumber(halved or now), index or ''
-- Earlier uses count less than later ones.
local divisor = 1
if now - halved >= 60000 then
    divisor, halved = 2, now
end

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

local kept, removed = {}, {}
if refused then
    add_fields(removed, id .. variant)
else
    local expiry = now + tonumber(ARGV[4])
    kept[1] = { id = variant, expiry = expiry, token = ARGV[6], class = ARGV[8], uses = 0 }
end

-- Drop the stored variants if the new variant has more selecting fields: the stored variants may be
-- for other values of the additional fields.
local keep_stored = refused or stored_names == names
for from = 1, #index, 50 do
    local stored = string.sub(index, from, from + 15)
    local expiry = tonumber(string.sub(index, from + 16, from + 31))
    local token, class = string.sub(index, from + 32, from + 47), string.sub(index, from + 48, from + 48)
    local uses = tonumber(string.sub(index, from + 49, from + 49)) or 0
    uses = math.floor(uses / divisor)
    if stored == variant then
        if not refused then kept[1].uses = uses end
    elseif keep_stored and expiry and expiry > now then
        kept[#kept + 1] = { id = stored, expiry = expiry, token = token, class = class, uses = uses }
    else
        add_fields(removed, id .. stored)
    end
end

-- If there are too many variants, drop those whose forwarded fields any client could have chosen,
-- then those with the fewest uses, then the oldest. The new variant, at the first place, is kept.
while #kept > max_variants do
    local worst = #kept
    for place = #kept - 1, 2, -1 do
        local this, other = kept[place], kept[worst]
        local is_chosen, other_is_chosen = this.class == 'c', other.class == 'c'
        if is_chosen and not other_is_chosen
            or is_chosen == other_is_chosen and this.uses < other.uses then
            worst = place
        end
    end
    add_fields(removed, id .. table.remove(kept, worst).id)
end

local last_expiry, encoded = 0, {}
for place, this in ipairs(kept) do
    last_expiry = math.max(last_expiry, this.expiry)
    encoded[place] = this.id .. string.format('%016.0f', this.expiry) .. this.token .. this.class
        .. this.uses
end
if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end
local header = string.format('%s %.0f\n', refused and stored_names or names, halved)
redis.call('HSET', KEYS[1], 'm' .. id, header .. table.concat(encoded))

-- The hash has the variants of other cache keys, too. Remove cache keys whose variants have all
-- expired. A random sample is enough: in a hash with many expired variants, a sample finds some.
if redis.call('HLEN', KEYS[1]) > 64 then
    for _, field in ipairs(redis.call('HRANDFIELD', KEYS[1], 8)) do
        if #field == 17 and string.sub(field, 1, 1) == 'm' then
            local _, _, other = read_index(field)
            if not other then remove_records(string.sub(field, 2)) end
            local expired, expired_fields = true, { field }
            for from = 1, #(other or ''), 50 do
                local expiry = tonumber(string.sub(other, from + 16, from + 31))
                expired = expired and not (expiry and expiry > now)
                local stored = string.sub(other, from, from + 15)
                add_fields(expired_fields, string.sub(field, 2) .. stored)
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
