-- Counts a use of a variant in the index of its cache key. The variants with the fewest uses are
-- dropped first if a cache key has too many.
--
-- KEYS[1]: the hash.
-- ARGV: 1 the id of the cache key; 2 the id of the variant.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return end
local field = 'm' .. ARGV[1]
local text = redis.call('HGET', KEYS[1], field) or ''
local first = (string.find(text, '\n', 1, true) or #text) + 1
-- A single variant is not dropped for another one.
if #text - first + 1 <= 50 then return end
for from = first, #text, 50 do
    if string.sub(text, from, from + 15) == ARGV[2] then
        local uses = tonumber(string.sub(text, from + 49, from + 49))
        if uses and uses < 9 then
            local counted = string.sub(text, 1, from + 48) .. (uses + 1) .. string.sub(text, from + 50)
            redis.call('HSET', KEYS[1], field, counted)
        end
        return
    end
end
