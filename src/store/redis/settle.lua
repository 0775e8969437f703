-- Makes a variant that was just written one of its resource's, or takes it away again.
-- KEYS: the resource.  ARGV: the variant; the names that select it; milliseconds it is kept;
-- variants kept at most.  Bodies never come through here.
local variant, names, most = ARGV[1], ARGV[2], tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HGET', KEYS[1], 'n')
-- What no names of fields are, nobody can read: it is written anew.
if known and string.find(known, "[^%w!#$%%&'*+%-.^_`|~,]") then known = false end
local index = redis.call('HGET', KEYS[1], 'i') or ''
local refused = false
if known and known ~= names then
    for name in string.gmatch(known, '[^,]+') do
        if not string.find(',' .. names .. ',', ',' .. name .. ',', 1, true) then
            refused = true
        end
    end
end
local kept, last, gone = {}, 0, {}
local function keep(id, at)
    kept[#kept + 1] = id .. string.format('%016.0f', at)
    last = math.max(last, at)
end
if refused then
    gone[1] = variant
else
    keep(variant, now + tonumber(ARGV[3]))
end
-- What was selected by fewer fields is not known to be right.
local others = refused or known == names
for from = 1, #index, 32 do
    local id, at = string.sub(index, from, from + 15), tonumber(string.sub(index, from + 16, from + 31))
    if id ~= variant then
        if others and at and at > now and #kept < most then keep(id, at) else gone[#gone + 1] = id end
    end
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
if not refused then redis.call('HSET', KEYS[1], 'n', names) end
redis.call('HSET', KEYS[1], 'i', table.concat(kept))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(last, now + 1)))
return refused and 0 or 1
