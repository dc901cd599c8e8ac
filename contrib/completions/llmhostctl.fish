# Completion of llmhostctl for fish: every word is asked of the program itself.
function __llmhostctl_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (command $words[1] __complete $words[2..-1] 2>/dev/null)
        if test "$line" = \t"files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c llmhostctl -f -k -a '(__llmhostctl_complete)'
