<?php echo "Hello, world!"; ?>
