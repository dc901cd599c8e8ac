#include "base/child.h"

#include "base/loop_private.h"

void children_hurry(struct loop *l)
{
    (void)l;
}
