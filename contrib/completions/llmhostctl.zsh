#compdef llmhostctl
# Completion of llmhostctl for zsh: every word is asked of the program itself.
_llmhostctl() {
    local line
    local -a names abouts
    for line in "${(@f)$($words[1] __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == $'\tfiles' ]]; then
            _files
            return
        elif [[ -n $line ]]; then
            names+=("${line%%$'\t'*}")
            abouts+=("${line//$'\t'/  -- }")
        fi
    done
    compadd -l -V llmhostctl -d abouts -a names
}
if [[ $funcstack[1] == _llmhostctl ]]; then
    _llmhostctl "$@"
else
    compdef _llmhostctl llmhostctl
fi
