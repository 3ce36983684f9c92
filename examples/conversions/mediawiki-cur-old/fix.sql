UPDATE cur SET cur_title = 'Page_3_(duplicate)' WHERE cur_id = 7000;
