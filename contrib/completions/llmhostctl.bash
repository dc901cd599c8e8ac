# Completion of llmhostctl for bash: every word is asked of the program itself. bash takes words apart at : and =, which names of models
# and options have, so the line is taken apart here, and of an answer what stands before the last of them is left out.
_llmhostctl() {
    local line=${COMP_LINE:0:COMP_POINT} words answer word lead=
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    [[ $word == *[:=]* && $COMP_WORDBREAKS == *:* ]] && lead=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS= read -r answer; do
        if [[ $answer == $'\tfiles' ]]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "${word##*=}")
            return
        fi
        answer=${answer%%$'\t'*}
        COMPREPLY+=("${answer#"$lead"}")
    done < <("$1" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o nosort -F _llmhostctl llmhostctl
