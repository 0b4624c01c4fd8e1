-- Each request carries a token of its own. Arguments: a file of tokens, one a line; how many of
-- them to leave out, so that the warm-up's are not used again.
local requests, last = {}, 0

function init(arguments)
    local left_out = tonumber(arguments[2])
    for token in io.lines(arguments[1]) do
        if left_out > 0 then
            left_out = left_out - 1
        else
            local headers = { Cookie = "theme=dark; evergate_access=" .. token .. "; lang=en" }
            requests[#requests + 1] = wrk.format("GET", nil, headers)
        end
    end
end

function request()
    last = last % #requests + 1
    return requests[last]
end
